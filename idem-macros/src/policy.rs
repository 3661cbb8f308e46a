//! What the words may be that are about failure, time and order. How a failed event is tried again
//! is `retry.rs`.

use proc_macro2::{Group, Span};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned as _;
use syn::{Expr, ExprPath, Ident, token};

use crate::errors::Errors;
use crate::forms::{Name, choice, expr, literal, name, number, ungroup};
use crate::time::{self, Time};
use crate::words::{Word, Words};

/// What becomes of an event that failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    DeadLetter,
    /// With room for so many behind each key.
    ParkKey(Option<u32>),
    Stop,
}

/// What a transaction sees of others: a variant of `IsolationLevel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isolation(pub(crate) &'static str);

/// What becomes of an event whose key is missing: a variant of `MissingKey`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingKey(pub(crate) &'static str);

impl MissingKey {
    pub(crate) const CONTENT_HASH: Self = Self("ContentHash");
    pub(crate) const PROCESS_WITHOUT_GUARANTEE: Self = Self("ProcessWithoutGuarantee");
}

/// What becomes of an event whose key belongs to another payload: a variant of `PayloadCheck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadCheck(pub(crate) &'static str);

/// How many bytes of a result are stored, unless it is said.
pub(crate) const RESULT_BYTES: usize = 16 << 10;

/// `store_result = 4096`
pub(crate) fn store_result(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<(usize, Span)> {
    const FORM: &str = "`store_result` stands alone, or says how many bytes of JSON a result has at \
                        most: `store_result = 4096`";
    let expr = expr(input, FORM)?;
    match number(&expr).and_then(Result::ok).map(usize::try_from) {
        Some(Ok(bytes @ 1..)) => Ok((bytes, expr.span())),
        _ => Err(syn::Error::new_spanned(&expr, FORM)),
    }
}

/// `payload_check = "dead_letter"`
pub(crate) fn payload_check(
    input: ParseStream<'_>,
    _: &mut Errors,
) -> syn::Result<(PayloadCheck, Span)> {
    const FORM: &str = "`payload_check` is \"warn\", \"dead_letter\" or \"stop\"";
    const VALUES: &[(&str, PayloadCheck)] = &[
        ("warn", PayloadCheck("Warn")),
        ("dead_letter", PayloadCheck("DeadLetter")),
        ("stop", PayloadCheck("Stop")),
    ];
    let name = one_name(input, FORM)?;
    Ok((choice(&name, "payload_check", VALUES)?, name.span))
}

const ENDS: &[(&str, OnFailure)] = &[
    ("dead_letter", OnFailure::DeadLetter),
    ("park_key", OnFailure::ParkKey(None)),
    ("stop", OnFailure::Stop),
];

const PARK_KEY: Words =
    Words { of: "park_key(..)", known: &[("limit", "limit = 5000")], other: &[], lone: None };

/// `on_failure = "stop"`, `on_failure = park_key(limit = 5000)`
pub(crate) fn on_failure(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<OnFailure> {
    if !(input.peek(Ident::peek_any) && input.peek2(token::Paren)) {
        let form = "`on_failure` is \"dead_letter\", \"park_key\", \"stop\" or \
                    `park_key(limit = 5000)`";
        return choice(&one_name(input, form)?, "on_failure", ENDS);
    }
    let ident = Ident::parse_any(input)?;
    let name = Name { text: ident.unraw().to_string(), span: ident.span() };
    if !matches!(choice(&name, "on_failure", ENDS), Ok(OnFailure::ParkKey(_))) {
        let _skipped: Group = input.parse()?;
        choice(&name, "on_failure", ENDS)?;
        let message = format!(
            "only `park_key` has something in parentheses; write `on_failure = \"{ident}\"`"
        );
        return Err(syn::Error::new(name.span, message));
    }
    let content;
    let paren = syn::parenthesized!(content in input);
    if content.is_empty() {
        return Err(syn::Error::new(
            paren.span.join(),
            "`park_key()` says nothing; write `park_key(limit = 5000)`, or without a limit of your \
             own `on_failure = \"park_key\"`",
        ));
    }
    let mut room = Word::Absent;
    PARK_KEY.read(&content, errors, |word| room = word.value(limit));
    Ok(OnFailure::ParkKey(room.given()))
}

fn limit(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<u32> {
    const FORM: &str = "`limit` is a number of events: `park_key(limit = 5000)`";
    let expr = expr(input, FORM)?;
    let wrong = |message: &str| Err(syn::Error::new_spanned(&expr, message));
    match number(&expr) {
        Some(Ok(0)) => wrong(
            "with room for no event the lane would come to a halt at the next one of the key; write \
             `on_failure = \"stop\"`",
        ),
        Some(Ok(limit)) => Ok(limit),
        Some(Err(_)) => wrong("this is more than can wait: at most 4294967295"),
        None => wrong(FORM),
    }
}

/// `isolation = "serializable"`
pub(crate) fn isolation(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Isolation> {
    const LEVELS: &[(&str, Isolation)] = &[
        ("read_committed", Isolation("ReadCommitted")),
        ("repeatable_read", Isolation("RepeatableRead")),
        ("serializable", Isolation("Serializable")),
    ];
    let form = "`isolation` is \"read_committed\", \"repeatable_read\" or \"serializable\"";
    choice(&one_name(input, form)?, "isolation", LEVELS)
}

/// `missing_key = "dead_letter"`
pub(crate) fn missing_key(
    input: ParseStream<'_>,
    _: &mut Errors,
) -> syn::Result<(MissingKey, Span)> {
    const ANSWERS: &[(&str, MissingKey)] = &[
        ("dead_letter", MissingKey("DeadLetter")),
        ("stop", MissingKey("Stop")),
        ("process_without_guarantee", MissingKey::PROCESS_WITHOUT_GUARANTEE),
        ("content_hash", MissingKey::CONTENT_HASH),
    ];
    let form = "`missing_key` is \"dead_letter\", \"stop\", \"process_without_guarantee\" or \
                \"content_hash\"";
    let name = one_name(input, form)?;
    Ok((choice(&name, "missing_key", ANSWERS)?, name.span))
}

/// `timeout = "30s"`
pub(crate) fn timeout(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Time> {
    time::time(input, "for no timeout leave the word out")
}

/// `order_by = "message_key"`
pub(crate) fn order_by(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Span> {
    let name = one_name(input, "the only order is `order_by = \"message_key\"`")?;
    choice(&name, "order_by", &[("message_key", name.span)])
}

/// `slices = 8`
pub(crate) fn slices(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<(u16, Span)> {
    const MAX: u16 = 256;
    const FORM: &str = "`slices` is a number from 1 to 256: `slices = 8`";
    let expr = expr(input, FORM)?;
    match number(&expr).and_then(Result::ok).map(u16::try_from) {
        Some(Ok(slices @ 1..=MAX)) => Ok((slices, expr.span())),
        _ => Err(syn::Error::new_spanned(&expr, FORM)),
    }
}

/// `permanent = BillingError::is_permanent`
pub(crate) fn permanent(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<ExprPath> {
    const FORM: &str = "`permanent` is the path of a function that takes the handler's error by \
                        reference and returns a `bool`: `permanent = BillingError::is_permanent`";
    path(input, "permanent", FORM)
}

/// `probe = was_charged`
pub(crate) fn probe(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<ExprPath> {
    const FORM: &str = "`probe` is the path of an `async fn` that takes the event and the attempt by \
                        reference and says what became of it: `probe = was_charged`, with `async fn \
                        was_charged(event: &OrderPlaced, begun: &Begun) -> Result<Probed, E>`";
    path(input, "probe", FORM)
}

fn path(input: ParseStream<'_>, word: &str, form: &str) -> syn::Result<ExprPath> {
    let expr = expr(input, form)?;
    let message = match ungroup(&expr) {
        Expr::Path(path) if path.attrs.is_empty() => return Ok(path.clone()),
        other => match literal(other) {
            Some(path) => format!("a path stands without quotes: `{word} = {}`", path.value()),
            None => form.to_owned(),
        },
    };
    Err(syn::Error::new_spanned(&expr, message))
}

fn one_name(input: ParseStream<'_>, form: &str) -> syn::Result<Name> {
    let expr = expr(input, form)?;
    name(&expr).ok_or_else(|| syn::Error::new_spanned(&expr, form))
}
