//! Which types of events a handler takes, and where their types are.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Expr, ExprPath, LitStr};

use crate::errors::Errors;
use crate::forms::{call_with_text, expr, literal, name, ungroup};
use crate::nearest::nearest;

/// What `types` says.
pub(crate) enum Types {
    /// Events whose type is of one of these patterns.
    Patterns(Vec<LitStr>),
    /// Those that this enum has variants for.
    Of(ExprPath),
}

impl Types {
    /// A place on the user's tokens.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Patterns(patterns) => patterns.first().map_or_else(Span::call_site, LitStr::span),
            Self::Of(path) => path.span(),
        }
    }
}

/// What `type_from` says.
pub(crate) struct TypeFrom {
    pub(crate) place: TypePlace,
    pub(crate) span: Span,
}

pub(crate) enum TypePlace {
    Header(LitStr),
    Field(LitStr),
    Topic,
}

/// `types = "order.*"`, `types = ["order.#", "return.placed"]` or `types = OrderEvent`
pub(crate) fn types(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Types> {
    const FORM: &str = "`types` is a pattern (`\"order.*\"`), a list of them \
                        (`[\"order.#\", \"return.placed\"]`) or an enum that derives \
                        `idem::EventTypes` (`OrderEvent`)";
    let expr = expr(input, FORM)?;
    let wrong = || syn::Error::new_spanned(&expr, FORM);
    match ungroup(&expr) {
        Expr::Path(path) if path.attrs.is_empty() => Ok(Types::Of(path.clone())),
        Expr::Array(list) => {
            if list.elems.is_empty() {
                errors.on(list, "the list of types is empty: leave the word out for all types");
            }
            let mut patterns: Vec<LitStr> = Vec::new();
            for elem in &list.elems {
                match literal(elem) {
                    None => errors.on(elem, FORM),
                    Some(text) if patterns.iter().any(|it| it.value() == text.value()) => errors
                        .on(text, format!("`{}` is in the list twice; keep one", text.value())),
                    Some(text) => {
                        check_pattern(text, errors);
                        patterns.push(text.clone());
                    }
                }
            }
            Ok(Types::Patterns(patterns))
        }
        other => {
            let text = literal(other).ok_or_else(wrong)?;
            check_pattern(text, errors);
            Ok(Types::Patterns(vec![text.clone()]))
        }
    }
}

/// The rules of the runtime's patterns.
fn check_pattern(text: &LitStr, errors: &mut Errors) {
    let value = text.value();
    let is_mixed = |segment: &str| segment.len() > 1 && segment.contains(['*', '#']);
    if value.is_empty() {
        errors.on(text, "the type is empty; for all types leave the word out");
    } else if value.split('.').any(str::is_empty) {
        errors.on(text, format!("`{value}` has an empty segment: between two dots stands a word"));
    } else if let Some(segment) = value.split('.').find(|it| is_mixed(it)) {
        errors.on(
            text,
            format!(
                "`{segment}` is not a segment of a pattern: `*` (one segment) and `#` (any number of \
                 them) stand alone between dots"
            ),
        );
    }
}

/// `type_from = header("event-type")`, `type_from = field("type")` or `type_from = topic`
pub(crate) fn type_from(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<TypeFrom> {
    const FORM: &str = "`type_from` is `header(\"event-type\")`, `field(\"type\")` or `topic`";
    let expr = expr(input, FORM)?;
    let wrong = |message: &str| Err(syn::Error::new_spanned(&expr, message));
    let place = if let Some(header) = call_with_text(&expr, "header") {
        if header.value().is_empty() {
            return wrong("the header has no name: `type_from = header(\"event-type\")`");
        }
        TypePlace::Header(header.clone())
    } else if let Some(field) = call_with_text(&expr, "field") {
        if field.value().split('.').any(str::is_empty) {
            return wrong(
                "a field is named as in the JSON, its parts divided by dots: \
                 `type_from = field(\"meta.type\")`",
            );
        }
        TypePlace::Field(field.clone())
    } else {
        let called = match ungroup(&expr) {
            Expr::Call(call) => name(&call.func),
            _ => name(&expr),
        };
        match called.as_ref().map(|it| it.text.as_str()) {
            Some("topic") if !matches!(ungroup(&expr), Expr::Call(_)) => TypePlace::Topic,
            Some(word @ ("header" | "field")) => {
                let example = if word == "header" { "event-type" } else { "type" };
                return wrong(&format!(
                    "`{word}` takes one name in quotes: `type_from = {word}(\"{example}\")`"
                ));
            }
            Some(other) => match nearest(other, &["header", "field", "topic"]) {
                Some(near) => {
                    return wrong(&format!(
                        "`{other}` is no place of a type; did you mean `{near}`?"
                    ));
                }
                None => return wrong(FORM),
            },
            None => return wrong(FORM),
        }
    };
    Ok(TypeFrom { place, span: expr.span() })
}
