//! What the key may be: a field of the event, several, a header, or the offset.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Expr, Ident, LitStr, Member};

use crate::errors::Errors;
use crate::forms::{expr, literal, ungroup};
use crate::nearest::nearest;

/// Where the key comes from.
pub(crate) enum Key {
    /// Fields of the event.
    Fields(Vec<Field>),
    /// A header of the message.
    Header(LitStr),
    /// The place of the message.
    Offset(Span),
}

/// A field of the event, `order.id`: never empty.
pub(crate) struct Field {
    pub(crate) path: Vec<Member>,
    /// A place on the user's tokens, with their hygiene.
    pub(crate) span: Span,
}

const KEY_FORMS: &str = "a key is a field (`\"event_id\"`, `\"order.id\"`), several fields \
                         (`(\"tenant\", \"event_id\")`), `header(\"name\")` or `offset`";

pub(crate) fn key(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Key> {
    let expr = expr(input, KEY_FORMS)?;
    match ungroup(&expr) {
        Expr::Path(path) if path.path.is_ident("offset") => Ok(Key::Offset(path.span())),
        Expr::Path(path) if path.path.is_ident("header") => Err(syn::Error::new_spanned(
            path,
            "name the header: `key = header(\"idempotency-key\")`; for a field of that name write \
             `key = \"header\"`",
        )),
        Expr::Call(call) => header(call),
        Expr::Tuple(tuple) if tuple.elems.is_empty() => {
            Err(syn::Error::new_spanned(tuple, format!("the key has no part; {KEY_FORMS}")))
        }
        Expr::Tuple(tuple) => {
            let fields: Vec<Field> = tuple
                .elems
                .iter()
                .filter_map(|part| field(ungroup(part)).map_err(|error| errors.push(error)).ok())
                .collect();
            refuse_twice(&fields, errors);
            Ok(Key::Fields(fields))
        }
        other => field(other).map(|field| Key::Fields(vec![field])),
    }
}

fn header(call: &syn::ExprCall) -> syn::Result<Key> {
    let function = match ungroup(&call.func) {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    match function.as_deref() {
        Some("header") => {}
        Some(other) if nearest(other, &["header"]).is_some() => {
            return Err(syn::Error::new_spanned(
                &call.func,
                format!("`{other}` is not a kind of key; did you mean `header`?"),
            ));
        }
        _ => return Err(syn::Error::new_spanned(call, KEY_FORMS)),
    }
    let mut args = call.args.iter();
    match (args.next().and_then(literal), args.next()) {
        (Some(name), None) if !name.value().is_empty() => Ok(Key::Header(name.clone())),
        _ => Err(syn::Error::new_spanned(
            call,
            "`header` takes one name in quotes: `key = header(\"idempotency-key\")`",
        )),
    }
}

/// A field written as a string, `"order.id"`, or bare, `order.id`.
fn field(expr: &Expr) -> syn::Result<Field> {
    if let Some(text) = literal(expr) {
        return text_field(text);
    }
    let mut path = Vec::new();
    let mut at = expr;
    loop {
        match ungroup(at) {
            Expr::Field(field) if field.attrs.is_empty() => {
                path.push(field.member.clone());
                at = &field.base;
            }
            Expr::Path(first) if first.path.get_ident().is_some() => {
                path.extend(first.path.get_ident().cloned().map(Member::Named));
                break;
            }
            _ => return Err(syn::Error::new_spanned(expr, KEY_FORMS)),
        }
    }
    path.reverse();
    let span = at.span();
    Ok(Field { path, span })
}

fn text_field(text: &LitStr) -> syn::Result<Field> {
    let (value, span) = (text.value(), text.span());
    if value.is_empty() {
        return Err(syn::Error::new(span, format!("the key is empty; {KEY_FORMS}")));
    }
    let path: Option<Vec<Member>> = value.split('.').map(|name| member(name, span)).collect();
    match path {
        Some(path) => Ok(Field { path, span }),
        None => Err(syn::Error::new(
            span,
            format!(
                "`{value}` is not a field of a Rust struct; write it as in `event.order.id`, \
                 without the `event.`"
            ),
        )),
    }
}

fn member(name: &str, span: Span) -> Option<Member> {
    if !name.is_empty() && name.bytes().all(|it| it.is_ascii_digit()) {
        let index = name.parse().ok()?;
        return Some(Member::Unnamed(syn::Index { index, span }));
    }
    let parsed = syn::parse_str::<Ident>(name).or_else(|_| {
        // A field may be called `type`, as `r#type`.
        syn::parse::Parser::parse_str(Ident::parse_any, name)
            .map(|word| Ident::new_raw(&word.unraw().to_string(), span))
    });
    let mut ident = parsed.ok()?;
    ident.set_span(span);
    Some(Member::Named(ident))
}

fn refuse_twice(fields: &[Field], errors: &mut Errors) {
    for (i, field) in fields.iter().enumerate() {
        if fields[..i].iter().any(|earlier| earlier.path == field.path) {
            errors.at(field.span, "this field is in the key twice; keep one");
        }
    }
}
