//! A field of the event as a source of a key.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Expr, Ident, LitStr, Member};

use super::KEY_FORMS;
use crate::forms::{literal, ungroup};

/// A field of the event, `order.id`: never empty.
pub(crate) struct Field {
    pub(crate) path: Vec<Member>,
    /// A place on the user's tokens, with their hygiene.
    pub(crate) span: Span,
}

impl Field {
    /// The names on the way to it, as people know them.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.path.iter().map(|member| match member {
            Member::Named(name) => name.unraw().to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        })
    }
}

/// A field written as a string, `"order.id"`, or bare, `order.id`.
pub(super) fn field(expr: &Expr) -> syn::Result<Field> {
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
