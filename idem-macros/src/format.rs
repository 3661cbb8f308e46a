//! What the value of `format` may be: one that idem brings, or a type.

use proc_macro2::{Group, Span};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Expr, Ident, LitStr, Type, token};

use crate::errors::Errors;
use crate::forms::{expr, listed, number, ungroup, ungroup_type};
use crate::nearest::nearest;
use crate::words::{Word, Words};

/// How an event is read.
pub(crate) enum Format {
    /// One that idem brings, by its name.
    Known { name: &'static str, span: Span },
    /// Protobuf in the frame of a registry, with the place of the message in its file.
    Framed { place: Vec<u32>, span: Span },
    /// A type.
    Type(Box<Type>),
}

const JSON: &str = "json";
const FRAMED: &str = "protobuf_registry";
const CLOUD_EVENTS: &str = "cloudevents";
const FORMATS: &[&str] = &[JSON, "protobuf", FRAMED, "avro", CLOUD_EVENTS];

const PLACE: Words = Words {
    of: "protobuf_registry(..)",
    known: &[("message", "message = 1")],
    other: &[("index", "write `message = 1`: the second message of the file")],
    lone: None,
};

impl Format {
    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Self::Known { name: JSON, .. })
    }

    /// Whether it is a CloudEvent, which has its type in itself.
    pub(crate) fn is_cloud_event(&self) -> bool {
        matches!(self, Self::Known { name: CLOUD_EVENTS, .. })
    }

    /// Whether the payload can be a JSON object: a CloudEvent in structured mode is one.
    pub(crate) fn has_json_fields(&self) -> bool {
        self.is_json() || self.is_cloud_event()
    }

    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Known { span, .. } | Self::Framed { span, .. } => *span,
            Self::Type(path) => path.span(),
        }
    }
}

/// `format = "avro"`, `format = protobuf_registry(message = 1)`, `format = codec::Encrypted`
pub(crate) fn format(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Format> {
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        return named(&text.value(), text.span());
    }
    if input.peek(Ident::peek_any) && input.peek2(token::Paren) {
        return with_place(input, errors);
    }
    let start = input.span();
    let wrong = |span| {
        let message = format!(
            "a format is {} or the path of a type that implements `idem::Format`",
            FORMATS.iter().map(|it| format!("`\"{it}\"`")).collect::<Vec<_>>().join(", ")
        );
        syn::Error::new(span, message)
    };
    match ungroup_type(input.parse().map_err(|_| wrong(start))?) {
        // `format = avro`, without the quotes.
        Type::Path(path) if path.path.get_ident().is_some_and(|it| known(it).is_some()) => {
            let ident = &path.path.segments[0].ident;
            named(&ident.to_string(), ident.span())
        }
        path @ Type::Path(_) => Ok(Format::Type(Box::new(path))),
        other => Err(wrong(other.span())),
    }
}

fn named(name: &str, span: Span) -> syn::Result<Format> {
    match known(name) {
        Some(FRAMED) => Ok(Format::Framed { place: vec![0], span }),
        Some(name) => Ok(Format::Known { name, span }),
        None => {
            let hint = match (name, nearest(name, FORMATS)) {
                (_, Some(near)) => format!("did you mean \"{near}\"?"),
                _ => format!(
                    "the formats are {}; a format of your own is given as the path of its type, \
                     without quotes",
                    listed("\"", FORMATS, "and")
                ),
            };
            Err(syn::Error::new(span, format!("there is no format \"{name}\"; {hint}")))
        }
    }
}

fn known<T: PartialEq<str> + ?Sized>(name: &T) -> Option<&'static str> {
    FORMATS.iter().copied().find(|known| name == *known)
}

fn with_place(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Format> {
    let ident = Ident::parse_any(input)?;
    let (name, span) = (ident.unraw().to_string(), ident.span());
    if known(name.as_str()) != Some(FRAMED) {
        let _skipped: Group = input.parse()?;
        named(&name, span)?;
        let message = format!(
            "only `protobuf_registry` has something in parentheses; write `format = \"{name}\"`"
        );
        return Err(syn::Error::new(span, message));
    }
    let content;
    let paren = syn::parenthesized!(content in input);
    if content.is_empty() {
        return Err(syn::Error::new(
            paren.span.join(),
            "`protobuf_registry()` says nothing; write `protobuf_registry(message = 1)`, or for the \
             first message of its file `format = \"protobuf_registry\"`",
        ));
    }
    let mut place = Word::Absent;
    PLACE.read(&content, errors, |word| place = word.value(message));
    Ok(Format::Framed { place: place.given().unwrap_or_default(), span })
}

fn message(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Vec<u32>> {
    const FORM: &str = "`message` is the number of the message in its file, counted from 0: \
                        `message = 1`, or `message = [1, 0]` for the first one inside of the second";
    let expr = expr(input, FORM)?;
    let index = |expr: &Expr| match number(expr) {
        Some(Ok(index)) => Ok(index),
        _ => Err(syn::Error::new_spanned(expr, FORM)),
    };
    match ungroup(&expr) {
        Expr::Array(array) if array.elems.is_empty() => Err(syn::Error::new_spanned(array, FORM)),
        Expr::Array(array) => array.elems.iter().map(index).collect(),
        _ => Ok(vec![index(&expr)?]),
    }
}
