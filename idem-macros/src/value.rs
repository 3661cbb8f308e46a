//! What the values of `store`, `topic`, `topics` and `scope` may be. Each value is checked by itself
//! and keeps its tokens.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Expr, LitStr, Type};

use crate::errors::Errors;
use crate::forms::{call_with_text, expr, literal, ungroup, ungroup_type};
use crate::nearest::nearest;

/// The store.
pub(crate) enum Store {
    /// One that idem brings, by its name.
    Known { name: &'static str, span: Span },
    /// A type.
    Type(Box<Type>),
}

const STORES: &[&str] = &["postgres", "sqlite"];

pub(crate) fn store(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Store> {
    if !input.peek(LitStr) {
        let start = input.span();
        let wrong = |span| {
            syn::Error::new(
                span,
                "a store is `\"postgres\"`, `\"sqlite\"` or the path of a type that implements \
                 `idem::Store`",
            )
        };
        return match ungroup_type(input.parse().map_err(|_| wrong(start))?) {
            // `store = postgres`, without the quotes.
            Type::Path(path) if path.path.get_ident().is_some_and(|it| known(it).is_some()) => {
                let ident = &path.path.segments[0].ident;
                known(ident)
                    .map(|name| Store::Known { name, span: ident.span() })
                    .ok_or_else(|| wrong(start))
            }
            path @ Type::Path(_) => Ok(Store::Type(Box::new(path))),
            other => Err(wrong(other.span())),
        };
    }
    let text: LitStr = input.parse()?;
    let (value, span) = (text.value(), text.span());
    if let Some(name) = known(&value) {
        return Ok(Store::Known { name, span });
    }
    let hint = match nearest(&value, STORES) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "the stores are \"postgres\" and \"sqlite\"; a store of your own is given as the \
                 path of its type, without quotes"
            .to_owned(),
    };
    Err(syn::Error::new(span, format!("there is no store \"{value}\"; {hint}")))
}

fn known<T: PartialEq<str> + ?Sized>(name: &T) -> Option<&'static str> {
    STORES.iter().copied().find(|known| name == *known)
}

pub(crate) fn topic(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Vec<LitStr>> {
    const FORM: &str = "a topic is a string, `topic = \"orders\"`, or a pattern, \
                        `topic = regex(\"^orders\")`; for several write \
                        `topics = [\"orders\", \"returns\"]`";
    let expr = expr(input, FORM)?;
    let name = one_topic(&expr, FORM, errors)?;
    Ok(vec![name])
}

/// A name, or a pattern, which is a text that begins with `^`.
fn one_topic(expr: &Expr, form: &str, errors: &mut Errors) -> syn::Result<LitStr> {
    if let Some(name) = literal(expr) {
        check_topic(name, errors);
        return Ok(name.clone());
    }
    let pattern =
        call_with_text(expr, "regex").ok_or_else(|| syn::Error::new_spanned(expr, form))?;
    check_topic_pattern(pattern, errors);
    Ok(pattern.clone())
}

/// What the runtime's `Topic` takes as a pattern, as far as can be seen letter by letter.
fn check_topic_pattern(pattern: &LitStr, errors: &mut Errors) {
    let value = pattern.value();
    if !value.starts_with('^') {
        let message = if value.is_empty() {
            "the pattern is empty: write `regex(\"^orders\")`".to_owned()
        } else {
            format!(
                "a pattern of topics begins with `^`, which says that names begin here: \
                 `regex(\"^{value}\")`; for names that contain it write `regex(\"^.*{value}\")`"
            )
        };
        errors.on(pattern, message);
    } else if let Some(class) = value.as_bytes().windows(2).find_map(|pair| match pair {
        [b'\\', letter] if letter.is_ascii_alphanumeric() => Some(char::from(*letter)),
        _ => None,
    }) {
        errors.on(
            pattern,
            format!(
                "`\\{class}` is not an escape that the Kafka client has: write a set, such as `[0-9]`"
            ),
        );
    } else if value.contains("(?") {
        errors.on(pattern, "`(?` is not something the Kafka client has: write a plain group");
    } else if let Some(letter) =
        value.chars().find(|it| !it.is_ascii_alphanumeric() && !"._-^$*+?|(){}[],\\".contains(*it))
    {
        errors.on(pattern, format!("no topic's name has {letter:?}"));
    }
}

pub(crate) fn topics(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Vec<LitStr>> {
    const FORM: &str = "topics are a list of strings and patterns: \
                        `topics = [\"orders\", \"returns\"]`, `topics = [regex(\"^orders\")]`";
    let expr = expr(input, FORM)?;
    let Expr::Array(array) = ungroup(&expr) else {
        return Err(syn::Error::new_spanned(&expr, FORM));
    };
    if array.elems.is_empty() {
        errors.on(array, "the list of topics is empty: name the topics the handler reads");
    }
    let mut names: Vec<LitStr> = Vec::new();
    for elem in &array.elems {
        match one_topic(elem, FORM, errors) {
            Err(error) => errors.push(error),
            Ok(name) if names.iter().any(|it| it.value() == name.value()) => {
                errors
                    .on(&name, format!("the topic \"{}\" is named twice; keep one", name.value()));
            }
            Ok(name) => names.push(name),
        }
    }
    Ok(names)
}

/// Kafka's own rules for a topic's name.
fn check_topic(name: &LitStr, errors: &mut Errors) {
    const MAX_LEN: usize = 249;
    let value = name.value();
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    let wrong = if value.is_empty() {
        "a topic's name cannot be empty".to_owned()
    } else if value.len() > MAX_LEN {
        format!("a topic's name has at most {MAX_LEN} bytes, this one has {}", value.len())
    } else if value == "." || value == ".." {
        format!("Kafka does not allow a topic to be called \"{value}\"")
    } else if value.starts_with('^') {
        format!("a pattern of topics is written `regex(\"{value}\")`")
    } else if let Some(letter) = value.chars().find(|it| !legal(*it)) {
        format!(
            "a topic's name has only the characters a-z, A-Z, 0-9, `.`, `_` and `-`, this one has \
             {letter:?}"
        )
    } else {
        return;
    };
    errors.on(name, wrong);
}

pub(crate) fn scope(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<LitStr> {
    const FORM: &str = "a scope is a string: `scope = \"billing\"`";
    let expr = expr(input, FORM)?;
    let scope = literal(&expr).ok_or_else(|| syn::Error::new_spanned(&expr, FORM))?;
    check_scope(&scope.value(), scope.span(), errors);
    Ok(scope.clone())
}

/// The rules of `idem_runtime`'s scopes.
pub(crate) fn check_scope(scope: &str, span: Span, errors: &mut Errors) {
    const MAX_LEN: usize = 255;
    if scope.is_empty() {
        errors.at(span, "a scope cannot be empty; without one it is the function's name");
    } else if scope.len() > MAX_LEN {
        errors
            .at(span, format!("a scope has at most {MAX_LEN} bytes, this one has {}", scope.len()));
    } else if let Some(letter) = scope.chars().find(|it| matches!(it, '\0' | ',' | ' ')) {
        errors.at(span, format!("a scope has no comma, space or NUL, this one has {letter:?}"));
    }
}
