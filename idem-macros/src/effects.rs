//! Where a handler's effects are: `effects = external(unknown = "retry")`.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{ExprPath, Ident, token};

use crate::errors::Errors;
use crate::forms::{Name, choice, expr, name};
use crate::policy;
use crate::time::{self, Time};
use crate::words::{Word, Words};

/// What is done with an attempt whose end is not known.
pub(crate) enum UnknownEnd {
    Retry,
    RetryAfter(Time),
    Never,
    /// This function finds out.
    Probe(ExprPath),
}

const FORM: &str = "`effects` says what is done with an attempt whose end is not known: `effects = \
                    external(unknown = \"retry\")`, with \"retry\", \"never\" or \
                    `retry_after(\"5m\")`, or `effects = external(probe = was_charged)`; effects \
                    written through the transaction need no word";

const UNKNOWN: &str = "`unknown` is \"retry\", \"never\" or `retry_after(\"5m\")`";

const WORDS: Words = Words {
    of: "external(..)",
    known: &[("unknown", "unknown = \"retry\""), ("probe", "probe = was_charged")],
    other: &[
        ("retry", "write `unknown = \"retry\"`"),
        ("never", "write `unknown = \"never\"`"),
        ("retry_after", "write `unknown = retry_after(\"5m\")`"),
    ],
    lone: Some("unknown"),
};

/// `effects = external(probe = was_charged)`
pub(crate) fn effects(
    input: ParseStream<'_>,
    errors: &mut Errors,
) -> syn::Result<(UnknownEnd, Span)> {
    let ident = match input.peek(Ident::peek_any) && input.peek2(token::Paren) {
        true => Ident::parse_any(input)?,
        false => return Err(syn::Error::new_spanned(expr(input, FORM)?, FORM)),
    };
    let external = ident.unraw() == "external";
    let content;
    let paren = syn::parenthesized!(content in input);
    if !external {
        // Whatever it says.
        let _skipped: proc_macro2::TokenStream = content.parse()?;
        return Err(syn::Error::new(ident.span(), FORM));
    }
    let (mut unknown, mut probe) = (Word::Absent, Word::Absent);
    let before = errors.len();
    WORDS.read(&content, errors, |word| match word.name {
        "unknown" => unknown = word.value(unknown_end),
        _ => probe = word.value(policy::probe),
    });
    match (unknown, probe) {
        (Word::Given(_), Word::Given(probe)) => Err(syn::Error::new_spanned(
            probe,
            "the probe finds out what became of the attempt; leave `unknown` out",
        )),
        (Word::Given(unknown), _) => Ok((unknown, ident.span())),
        (_, Word::Given(probe)) => Ok((UnknownEnd::Probe(probe), ident.span())),
        // A mistake that is reported already.
        _ if errors.len() > before => Ok((UnknownEnd::Retry, ident.span())),
        _ => Err(syn::Error::new(paren.span.join(), FORM)),
    }
}

/// `unknown = retry_after("5m")`
fn unknown_end(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<UnknownEnd> {
    const ENDS: &[(&str, Option<bool>)] =
        &[("retry", Some(true)), ("never", Some(false)), ("retry_after", None)];
    const AFTER: &str = "`retry_after` needs a time: `unknown = retry_after(\"5m\")`";
    if input.peek(Ident::peek_any) && input.peek2(token::Paren) {
        let ident = Ident::parse_any(input)?;
        let content;
        let _paren = syn::parenthesized!(content in input);
        let name = Name { text: ident.unraw().to_string(), span: ident.span() };
        if choice(&name, "unknown", ENDS)?.is_some() {
            let _skipped: proc_macro2::TokenStream = content.parse()?;
            let message = format!("only `retry_after` has a time; write `unknown = \"{ident}\"`");
            return Err(syn::Error::new(name.span, message));
        }
        if content.is_empty() {
            return Err(syn::Error::new(name.span, AFTER));
        }
        let zero = "after no time at all it is `unknown = \"retry\"`";
        let time = time::time(&content, zero)?;
        return Ok(UnknownEnd::RetryAfter(time));
    }
    let expr = expr(input, UNKNOWN)?;
    let Some(name) = name(&expr) else { return Err(syn::Error::new_spanned(&expr, UNKNOWN)) };
    match choice(&name, "unknown", ENDS)? {
        Some(true) => Ok(UnknownEnd::Retry),
        Some(false) => Ok(UnknownEnd::Never),
        None => Err(syn::Error::new(name.span, AFTER)),
    }
}
