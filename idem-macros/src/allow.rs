//! What the key lint was told to allow: `allow(timestamp_key, reason = "..")`.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::{LitStr, token};

use crate::errors::Errors;
use crate::forms::{expr, literal};
use crate::words::{Word, Words};

/// A lint by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lint {
    TimestampKey,
    SecretKey,
}

impl Lint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TimestampKey => "timestamp_key",
            Self::SecretKey => "secret_key",
        }
    }
}

/// What is allowed, and why.
pub(crate) struct Allow {
    pub(crate) lints: Vec<(Lint, Span)>,
    pub(crate) reason: LitStr,
}

const FORM: &str = "`allow` names what is allowed and says why: `allow(timestamp_key, reason = \
                    \"one reading a second\")`";

const WORDS: Words = Words {
    of: "allow(..)",
    known: &[
        ("timestamp_key", "allow(timestamp_key, reason = \"..\")"),
        ("secret_key", "allow(secret_key, reason = \"..\")"),
        ("reason", "reason = \"one reading a second\""),
    ],
    other: &[
        ("float_key", "a float cannot be a key at all; write it as text or as an integer"),
        ("because", "did you mean `reason`?"),
    ],
    lone: Some("reason"),
};

/// `allow(timestamp_key, reason = "..")`
pub(crate) fn list(
    paren: token::Paren,
    input: ParseStream<'_>,
    errors: &mut Errors,
) -> syn::Result<Allow> {
    let (mut lints, mut reason) = (Vec::new(), Word::Absent);
    let before = errors.len();
    WORDS.read(input, errors, |word| {
        let span = word.span();
        let lint = match word.name {
            "timestamp_key" => Lint::TimestampKey,
            "secret_key" => Lint::SecretKey,
            _ => return reason = word.value(text),
        };
        let alone = word.value_or_alone((), |input, _| {
            Err(input.error(format!("`{}` has no value; write it alone", lint.name())))
        });
        if matches!(alone, Word::Given(())) {
            lints.push((lint, span));
        }
    });
    let reason = reason.given();
    if errors.len() == before && (lints.is_empty() || reason.is_none()) {
        return Err(syn::Error::new(paren.span.join(), FORM));
    }
    // Without a reason, what is wrong is said already.
    Ok(Allow { lints, reason: reason.unwrap_or_else(|| LitStr::new("", paren.span.join())) })
}

/// `allow = ..`
pub(crate) fn value(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Allow> {
    Err(input.error(FORM))
}

fn text(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<LitStr> {
    const EMPTY: &str = "say why it is right here, for those who read it next: `reason = \"one \
                         reading a second\"`";
    let expr = expr(input, EMPTY)?;
    match literal(&expr) {
        Some(reason) if !reason.value().trim().is_empty() => Ok(reason.clone()),
        _ => Err(syn::Error::new_spanned(&expr, EMPTY)),
    }
}
