//! The forms that values have, whatever they mean: a literal, a name, a number, one of several.

use std::num::ParseIntError;
use std::str::FromStr;

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Expr, ExprLit, Lit, LitStr, Type};

use crate::nearest::nearest;

/// Reads an expression. Of anything else the mistake is that it has not the form.
pub(crate) fn expr(input: ParseStream<'_>, form: &str) -> syn::Result<Expr> {
    let start = input.span();
    input.parse().map_err(|_| syn::Error::new(start, form))
}

/// A name, in quotes or without.
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// The expression as a name.
pub(crate) fn name(expr: &Expr) -> Option<Name> {
    if let Some(text) = literal(expr) {
        return Some(Name { text: text.value(), span: text.span() });
    }
    match ungroup(expr) {
        Expr::Path(path) if path.attrs.is_empty() => {
            let ident = path.path.get_ident()?;
            Some(Name { text: ident.unraw().to_string(), span: ident.span() })
        }
        _ => None,
    }
}

/// One of the values that a word can have.
pub(crate) fn choice<T: Copy>(name: &Name, word: &str, values: &[(&str, T)]) -> syn::Result<T> {
    let text = name.text.as_str();
    if let Some((_, value)) = values.iter().find(|(known, _)| *known == text) {
        return Ok(*value);
    }
    let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
    let hint = match nearest(text, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("it is {}", listed("\"", &known, "or")),
    };
    Err(syn::Error::new(name.span, format!("`{word}` cannot be \"{text}\"; {hint}")))
}

/// A whole number without a sign or a suffix; an error when it is too large.
pub(crate) fn number(expr: &Expr) -> Option<syn::Result<u32>> {
    int(expr)
}

/// As [`number`], for more than a `u32` can count.
pub(crate) fn count(expr: &Expr) -> Option<syn::Result<u64>> {
    int(expr)
}

fn int<N: FromStr<Err = ParseIntError>>(expr: &Expr) -> Option<syn::Result<N>> {
    match ungroup(expr) {
        Expr::Lit(ExprLit { lit: Lit::Int(number), attrs }) if attrs.is_empty() => {
            number.suffix().is_empty().then(|| number.base10_parse())
        }
        _ => None,
    }
}

pub(crate) fn literal(expr: &Expr) -> Option<&LitStr> {
    match ungroup(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), attrs }) if attrs.is_empty() => Some(text),
        _ => None,
    }
}

/// The text in a call of this name, `header("event-type")`.
pub(crate) fn call_with_text<'e>(expr: &'e Expr, name: &str) -> Option<&'e LitStr> {
    let Expr::Call(call) = ungroup(expr) else { return None };
    let is_it = match ungroup(&call.func) {
        Expr::Path(path) => path.path.is_ident(name),
        _ => false,
    };
    let mut args = call.args.iter();
    let text = args.next().and_then(literal)?;
    (is_it && args.next().is_none()).then_some(text)
}

/// Looks through the invisible groups that `macro_rules!` puts around what it was given, and
/// through parentheses.
pub(crate) fn ungroup(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => ungroup(&group.expr),
        Expr::Paren(paren) => ungroup(&paren.expr),
        other => other,
    }
}

/// As [`ungroup`], for a type.
pub(crate) fn ungroup_type(ty: Type) -> Type {
    match ty {
        Type::Group(group) => ungroup_type(*group.elem),
        other => other,
    }
}

/// The names in a row, each in its quotes.
pub(crate) fn listed(quote: &str, names: &[&str], and: &str) -> String {
    let mut text = String::new();
    for (i, name) in names.iter().enumerate() {
        match names.len() - i {
            _ if i == 0 => {}
            1 => text.push_str(&format!(" {and} ")),
            _ => text.push_str(", "),
        }
        text.push_str(&format!("{quote}{name}{quote}"));
    }
    text
}
