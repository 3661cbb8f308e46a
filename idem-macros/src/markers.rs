//! How a handler's markers are kept: `markers = packed(window = "7d", events = 10_000_000)`.
//!
//! Not here: what goes with it (`check/marked.rs`).

use proc_macro2::{Group, Span};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Ident, token};

use crate::errors::Errors;
use crate::forms::{Name, choice, count, expr, name};
use crate::time::{self, Time};
use crate::words::{Word, Words};

/// How markers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    Rows,
    /// For so long, if it is said.
    Packed(Option<Window>),
}

/// How long packed markers are kept. What is not said is as in `idem::Window::DEFAULT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) time: Option<Time>,
    pub(crate) events: Option<u64>,
}

const FORM: &str = "`markers` is \"rows\", \"packed\" or `packed(window = \"7d\", events = \
                    10_000_000)`";

const KINDS: &[(&str, Markers)] = &[("rows", Markers::Rows), ("packed", Markers::Packed(None))];

const WORDS: Words = Words {
    of: "packed(..)",
    known: &[("window", "window = \"7d\""), ("events", "events = 10_000_000")],
    other: &[
        ("time", "did you mean `window`?"),
        ("days", "write `window = \"7d\"`"),
        ("max", "did you mean `events`?"),
        ("limit", "did you mean `events`?"),
        ("size", "did you mean `events`?"),
        ("memory", "it is the process's: `.packed_memory(256 << 20)` on the builder"),
        ("stale", "it is the group's: `.stale(Stale::DeadLetter)` on the builder"),
    ],
    lone: Some("window"),
};

/// `markers = "rows"`, `markers = packed(window = "7d")`
pub(crate) fn markers(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<(Markers, Span)> {
    if !(input.peek(Ident::peek_any) && input.peek2(token::Paren)) {
        let expr = expr(input, FORM)?;
        let name = name(&expr).ok_or_else(|| syn::Error::new_spanned(&expr, FORM))?;
        return Ok((kind(&name)?, name.span));
    }
    let ident = Ident::parse_any(input)?;
    let name = Name { text: ident.unraw().to_string(), span: ident.span() };
    if !matches!(kind(&name), Ok(Markers::Packed(_))) {
        let _skipped: Group = input.parse()?;
        kind(&name)?;
        let message = format!(
            "only `packed` has a window; markers in rows are kept until they are deleted: write \
             `markers = \"{ident}\"`, or `markers = packed(..)`"
        );
        return Err(syn::Error::new(name.span, message));
    }
    let content;
    let paren = syn::parenthesized!(content in input);
    if content.is_empty() {
        return Err(syn::Error::new(
            paren.span.join(),
            "`packed()` says nothing; write `packed(window = \"7d\")`, or without a window of your \
             own `markers = \"packed\"`",
        ));
    }
    let (mut window, mut events) = (Word::Absent, Word::Absent);
    WORDS.read(&content, errors, |word| match word.name {
        "window" => window = word.value(length),
        _ => events = word.value(number_of_events),
    });
    let window = Window { time: window.given(), events: events.given() };
    Ok((Markers::Packed(Some(window)), name.span))
}

fn kind(name: &Name) -> syn::Result<Markers> {
    if name.text == "offset" {
        let message = "for the lane's position in place of markers write `key = offset`";
        return Err(syn::Error::new(name.span, message));
    }
    choice(name, "markers", KINDS)
}

fn length(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Time> {
    time::time(input, "such a window finds no duplicate; without the word it is \"7d\"")
}

fn number_of_events(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<u64> {
    const FORM: &str = "`events` is a number of events: `packed(events = 10_000_000)`";
    let expr = expr(input, FORM)?;
    let wrong = |message: &str| Err(syn::Error::new_spanned(&expr, message));
    match count(&expr) {
        Some(Ok(0)) => wrong(
            "a window of no events finds no duplicate; for as many as there are leave the word out",
        ),
        Some(Ok(events)) => Ok(events),
        Some(Err(_)) => {
            wrong("this is more than can be counted; for as many as there are leave the word out")
        }
        None => wrong(FORM),
    }
}
