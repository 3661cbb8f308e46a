//! How a failed event is tried again: `retry(max = 5, backoff = "200ms..30s")`, `retry = "never"`.

use syn::parse::ParseStream;
use syn::{Expr, Lit, token};

use crate::errors::Errors;
use crate::forms::{choice, expr, name, number, ungroup};
use crate::time::{self, Time};
use crate::words::{Word, Words};

/// What is said of it. What is not said is as in `idem::Retry::new()`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Retry {
    pub(crate) max: Option<Max>,
    pub(crate) backoff: Option<(Time, Time)>,
    pub(crate) jitter: Option<bool>,
    pub(crate) total: Option<Time>,
}

/// How many attempts there are, the first included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Max {
    Attempts(u32),
    Never,
    Forever,
}

const WORDS: Words = Words {
    of: "retry(..)",
    known: &[
        ("max", "max = 5"),
        ("backoff", "backoff = \"200ms..30s\""),
        ("jitter", "jitter = false"),
        ("total", "total = \"10m\""),
    ],
    other: &[
        ("attempts", "did you mean `max`?"),
        ("timeout", "it stands beside `retry`: `retry(..), timeout = \"30s\"`"),
        ("permanent", "it stands beside `retry`: `retry(..), permanent = is_permanent`"),
        ("forever", "write `retry = \"forever\"`, or `retry(max = \"forever\", ..)`"),
        ("never", "write `retry = \"never\"`"),
        ("delay", "did you mean `backoff`?"),
    ],
    lone: None,
};

/// `retry(max = 5, ..)`
pub(crate) fn list(
    paren: token::Paren,
    input: ParseStream<'_>,
    errors: &mut Errors,
) -> syn::Result<Retry> {
    if input.is_empty() {
        return Err(syn::Error::new(
            paren.span.join(),
            "`retry()` says nothing; name a part, such as `retry(max = 5)`, or leave it out",
        ));
    }
    let (mut attempts, mut backoff) = (Word::Absent, Word::Absent);
    let (mut jitter, mut total) = (Word::Absent, Word::Absent);
    WORDS.read(input, errors, |word| match word.name {
        "max" => attempts = word.value(max),
        "backoff" => {
            backoff = word.value(|input, _| {
                time::range(input, "pauses double, and nothing stays nothing; try \"1ms\"")
            });
        }
        "jitter" => jitter = word.value_or_alone(true, flag),
        _ => {
            total = word.value(|input, _| {
                time::time(input, "for no second attempt write `retry = \"never\"`")
            });
        }
    });
    Ok(Retry {
        max: attempts.given(),
        backoff: backoff.given(),
        jitter: jitter.given(),
        total: total.given(),
    })
}

/// `retry = "never"`
pub(crate) fn whole(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Retry> {
    const FORM: &str = "`retry` is `retry(max = 5, backoff = \"200ms..30s\")`, `retry = \"never\"` \
                        or `retry = \"forever\"`";
    const NAMES: &[(&str, Max)] = &[("never", Max::Never), ("forever", Max::Forever)];
    let expr = expr(input, FORM)?;
    if let Expr::Lit(it) = ungroup(&expr)
        && let Lit::Int(attempts) = &it.lit
    {
        let message = format!("write `retry(max = {attempts})`");
        return Err(syn::Error::new_spanned(&expr, message));
    }
    let name = name(&expr).ok_or_else(|| syn::Error::new_spanned(&expr, FORM))?;
    let max = choice(&name, "retry", NAMES)?;
    Ok(Retry { max: Some(max), ..Retry::default() })
}

fn max(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<Max> {
    const FORM: &str = "`max` is a number of attempts, `max = 5`, or `max = \"forever\"`";
    let expr = expr(input, FORM)?;
    if name(&expr).is_some_and(|name| name.text == "forever") {
        return Ok(Max::Forever);
    }
    let wrong = |message: &str| Err(syn::Error::new_spanned(&expr, message));
    match number(&expr) {
        Some(Ok(0)) => wrong(
            "`max` counts the first attempt, too, so that there is no 0; for no second attempt \
             write `retry = \"never\"`",
        ),
        Some(Ok(attempts)) => Ok(Max::Attempts(attempts)),
        Some(Err(_)) => {
            wrong("this is more than `max` can be; for no end write `max = \"forever\"`")
        }
        None => wrong(FORM),
    }
}

fn flag(input: ParseStream<'_>, _: &mut Errors) -> syn::Result<bool> {
    const FORM: &str = "`jitter` is `true` or `false`; without a value it is `true`";
    let expr = expr(input, FORM)?;
    if let Expr::Lit(it) = ungroup(&expr)
        && let Lit::Bool(yes) = &it.lit
    {
        return Ok(yes.value);
    }
    Err(syn::Error::new_spanned(&expr, FORM))
}
