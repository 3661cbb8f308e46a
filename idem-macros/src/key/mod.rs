//! What the key may be: a source, several, or the offset. A source is a field of the event, a header,
//! the message key, the content or a function.
//!
//! What a key should better not be is `lint.rs`.

mod field;

use proc_macro2::Span;
use quote::quote;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Expr, ExprCall, ExprPath, LitStr, Token};

use crate::errors::Errors;
use crate::forms::{expr, literal, ungroup};
use crate::nearest::nearest;
pub(crate) use field::Field;

/// What the key is.
pub(crate) enum Key {
    /// Made of these; never empty. A tenant comes first.
    Sources(Vec<Source>),
    /// The place of the message.
    Offset(Span),
}

/// Where a part of the key comes from.
pub(crate) enum Source {
    /// A field of the event.
    Field(Field),
    /// A header of the message.
    Header(LitStr),
    /// The message key.
    MessageKey(Span),
    /// A hash of what the message says.
    Content(Content),
    /// A function of the event.
    With(ExprPath),
}

/// What of the payload is hashed.
pub(crate) struct Content {
    pub(crate) span: Span,
    pub(crate) selected: Selected,
}

/// Fields of the payload, by their names in it.
pub(crate) enum Selected {
    All,
    /// Those that each event has, and those that it may have.
    Only {
        fields: Vec<LitStr>,
        optional: Vec<LitStr>,
    },
    Except(Vec<LitStr>),
}

impl Source {
    /// Whether it is in the message, and not in the event.
    pub(crate) fn needs_message(&self) -> bool {
        !matches!(self, Self::Field(_) | Self::With(_))
    }

    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Field(field) => field.span,
            Self::Header(name) => name.span(),
            Self::MessageKey(span) => *span,
            Self::Content(content) => content.span,
            Self::With(path) => path.span(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Field(one), Self::Field(other)) => one.path == other.path,
            (Self::Header(one), Self::Header(other)) => one.value() == other.value(),
            (Self::MessageKey(_), Self::MessageKey(_)) => true,
            (Self::Content(_), Self::Content(_)) => true,
            (Self::With(one), Self::With(other)) => {
                quote!(#one).to_string() == quote!(#other).to_string()
            }
            _ => false,
        }
    }
}

const KEY_FORMS: &str = "a key is a field (`\"event_id\"`, `\"order.id\"`), `header(\"name\")`, \
                         `message_key`, `content_hash`, `with(path::to::function)`, several of them \
                         (`(\"tenant\", \"event_id\")`), or `offset`";

/// `key = ("tenant", header("request-id"))`
pub(crate) fn key(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Key> {
    let expr = expr(input, KEY_FORMS)?;
    match ungroup(&expr) {
        Expr::Path(path) if path.path.is_ident("offset") => Ok(Key::Offset(path.span())),
        Expr::Tuple(tuple) if tuple.elems.is_empty() => {
            Err(syn::Error::new_spanned(tuple, format!("the key has no part; {KEY_FORMS}")))
        }
        Expr::Tuple(tuple) => {
            let mut sources = Vec::new();
            for part in &tuple.elems {
                match source(ungroup(part), errors) {
                    Ok(source) => sources.push(source),
                    Err(error) => errors.push(error),
                }
            }
            refuse_twice(&sources.iter().collect::<Vec<_>>(), errors);
            Ok(Key::Sources(sources))
        }
        other => source(other, errors).map(|source| Key::Sources(vec![source])),
    }
}

/// `tenant = "customer.tenant"`
pub(crate) fn tenant(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Source> {
    const FORM: &str = "a tenant is a field (`\"tenant_id\"`), `header(\"name\")`, `message_key` or \
                        `with(path::to::function)`";
    let expr = expr(input, FORM)?;
    match ungroup(&expr) {
        Expr::Path(path) if path.path.is_ident("offset") => Err(syn::Error::new_spanned(
            path,
            "the offset says nothing of whose the event is; name what does: `tenant = \"tenant_id\"`",
        )),
        Expr::Tuple(tuple) => Err(syn::Error::new_spanned(
            tuple,
            "a tenant is one thing; what else makes the event is in the key: `key = (\"a\", \"b\")`",
        )),
        Expr::Lit(_) if literal(&expr).is_none() => Err(syn::Error::new_spanned(&expr, FORM)),
        other => match source(other, errors)? {
            Source::Content(content) => Err(syn::Error::new(
                content.span,
                "what an event says is not whose it is; name what is: `tenant = \"tenant_id\"`",
            )),
            source => Ok(source),
        },
    }
}

/// One source.
fn source(expr: &Expr, errors: &mut Errors) -> syn::Result<Source> {
    match expr {
        Expr::Path(path) if path.path.is_ident("offset") => Err(syn::Error::new_spanned(
            path,
            "`offset` is a key alone: it tells each event from every other already; for a field of \
             that name write `\"offset\"`",
        )),
        Expr::Path(path) if path.path.is_ident("header") => Err(syn::Error::new_spanned(
            path,
            "name the header: `key = header(\"idempotency-key\")`; for a field of that name write \
             `key = \"header\"`",
        )),
        Expr::Path(path) if path.path.is_ident("with") => Err(syn::Error::new_spanned(
            path,
            "name the function: `key = with(path::to::function)`; for a field of that name write \
             `key = \"with\"`",
        )),
        Expr::Path(path) if path.path.is_ident("message_key") => {
            Ok(Source::MessageKey(path.span()))
        }
        Expr::Path(path) if path.path.is_ident("content_hash") => {
            Ok(Source::Content(Content { span: path.span(), selected: Selected::All }))
        }
        Expr::Path(path) if path.path.segments.len() > 1 => {
            let path = path.path.segments.iter().map(|it| it.ident.to_string());
            let path = path.collect::<Vec<_>>().join("::");
            Err(syn::Error::new_spanned(
                expr,
                format!("for a function of the event write `with({path})`"),
            ))
        }
        Expr::Call(call) => called(call, errors),
        other => field::field(other).map(Source::Field),
    }
}

/// `header("name")`, `with(path)`, `content_hash(..)`
fn called(call: &ExprCall, errors: &mut Errors) -> syn::Result<Source> {
    const KINDS: &[&str] = &["header", "with", "content_hash", "message_key"];
    let function = match ungroup(&call.func) {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    match function.as_deref() {
        Some("header") => header(call),
        Some("with") => with(call),
        Some("content_hash") => content(call, errors),
        Some("message_key") => {
            Err(syn::Error::new_spanned(call, "write `message_key`, without parentheses"))
        }
        Some(other) => Err(match nearest(other, KINDS) {
            Some(near) => syn::Error::new_spanned(
                &call.func,
                format!("`{other}` is not a kind of key; did you mean `{near}`?"),
            ),
            None => syn::Error::new_spanned(call, KEY_FORMS),
        }),
        None => Err(syn::Error::new_spanned(call, KEY_FORMS)),
    }
}

fn header(call: &ExprCall) -> syn::Result<Source> {
    let mut args = call.args.iter();
    match (args.next().and_then(literal), args.next()) {
        (Some(name), None) if !name.value().is_empty() => Ok(Source::Header(name.clone())),
        _ => Err(syn::Error::new_spanned(
            call,
            "`header` takes one name in quotes: `key = header(\"idempotency-key\")`",
        )),
    }
}

fn with(call: &ExprCall) -> syn::Result<Source> {
    const FORM: &str = "`with` takes the path of a function that takes the event by reference and \
                        returns its key: `key = with(OrderPlaced::key)`";
    let mut args = call.args.iter();
    let (Some(argument), None) = (args.next(), args.next()) else {
        return Err(syn::Error::new_spanned(call, FORM));
    };
    let message = match ungroup(argument) {
        Expr::Path(path) if path.attrs.is_empty() => return Ok(Source::With(path.clone())),
        other => match literal(other) {
            Some(path) => format!("a path stands without quotes: `with({})`", path.value()),
            None => FORM.to_owned(),
        },
    };
    Err(syn::Error::new_spanned(argument, message))
}

const CONTENT_FORMS: &str = "of the content are hashed all fields (`content_hash`), some \
                             (`content_hash(\"order.id\", \"cents\")`, and with \
                             `optional(\"coupon\")` among them some that need not be there) or all \
                             but some (`content_hash(except(\"sent_at\"))`)";

fn content(call: &ExprCall, errors: &mut Errors) -> syn::Result<Source> {
    let span = call.func.span();
    let selected = match call.args.first() {
        Some(only) if call.args.len() == 1 => match called_as(only, "except") {
            Some(except) if except.args.is_empty() => {
                return Err(syn::Error::new_spanned(
                    except,
                    "`except()` leaves nothing out; for all fields write `content_hash`",
                ));
            }
            Some(except) => {
                let mut fields = Vec::new();
                for arg in &except.args {
                    fields.push(named(arg, &fields, errors)?);
                }
                Selected::Except(fields)
            }
            None => chosen(&call.args, errors)?,
        },
        Some(_) => chosen(&call.args, errors)?,
        None => {
            return Err(syn::Error::new_spanned(
                call,
                "`content_hash()` says nothing; for all fields write `content_hash`",
            ));
        }
    };
    Ok(Source::Content(Content { span, selected }))
}

/// `"order.id", "cents", optional("coupon")`
fn chosen(args: &Punctuated<Expr, Token![,]>, errors: &mut Errors) -> syn::Result<Selected> {
    let (mut fields, mut optional) = (Vec::new(), Vec::new());
    // To find what is named twice, in whatever way.
    let mut all: Vec<LitStr> = Vec::new();
    for arg in args {
        let Some(call) = called_as(arg, "optional") else {
            let field = named(arg, &all, errors)?;
            all.push(field.clone());
            fields.push(field);
            continue;
        };
        if call.args.is_empty() {
            return Err(syn::Error::new_spanned(
                call,
                "`optional()` names no field; leave it out, or name one: `optional(\"coupon\")`",
            ));
        }
        for arg in &call.args {
            let field = named(arg, &all, errors)?;
            all.push(field.clone());
            optional.push(field);
        }
    }
    Ok(Selected::Only { fields, optional })
}

/// The call, if it is one of a function of this name.
fn called_as<'a>(arg: &'a Expr, name: &str) -> Option<&'a ExprCall> {
    let Expr::Call(call) = ungroup(arg) else { return None };
    match ungroup(&call.func) {
        Expr::Path(path) if path.path.is_ident(name) => Some(call),
        _ => None,
    }
}

/// The name of a field of the payload.
fn named(arg: &Expr, before: &[LitStr], errors: &mut Errors) -> syn::Result<LitStr> {
    let Some(field) = literal(arg) else {
        return Err(syn::Error::new_spanned(arg, CONTENT_FORMS));
    };
    let value = field.value();
    if value.split('.').any(str::is_empty) {
        errors.on(field, "name a field as in the payload, `\"sent_at\"`, or `\"order.id\"`");
    } else if before.iter().any(|it| it.value() == value) {
        errors.on(field, "this field is named twice; keep one");
    }
    Ok(field.clone())
}

/// Says which of the sources were there before.
pub(crate) fn refuse_twice(sources: &[&Source], errors: &mut Errors) {
    for (i, source) in sources.iter().enumerate() {
        if sources[..i].iter().any(|earlier| earlier.is(source)) {
            let what = match source {
                Source::Field(_) => "field",
                Source::Header(_) => "header",
                Source::With(_) => "function",
                Source::MessageKey(_) | Source::Content(_) => "part",
            };
            errors.at(source.span(), format!("this {what} is in the key twice; keep one"));
        }
    }
}
