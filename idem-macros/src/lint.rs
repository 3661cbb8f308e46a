//! What a key should better not be, told by the names of what it is made of. What its types tell is
//! said by the compiler (`idem_runtime::KeyPart`).

use quote::ToTokens as _;
use syn::LitStr;
use syn::ext::IdentExt as _;

use crate::allow::{Allow, Lint};
use crate::errors::Errors;
use crate::key::{Content, Selected, Source};

/// Names of times, and how such names end.
const TIMES: &[&str] = &["timestamp", "ts", "time", "date", "datetime"];
const TIME_ENDS: &[&str] =
    &["_at", "_time", "_ts", "_timestamp", "_date", "_datetime", "_ms", "_millis"];

/// What can stand behind the name of a time.
const UNITS: &[&str] =
    &["_s", "_secs", "_seconds", "_us", "_micros", "_ns", "_nanos", "_utc", "_unix", "_epoch"];

/// Names of secrets; a name that ends with one of them after an underscore is one, too.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "authorization",
    "credentials",
    "cookie",
    "ssn",
    "social_security_number",
    "card_number",
    "cvv",
    "cvc",
    "pin",
];

/// Tokens that are made to tell requests apart.
const TOKENS: &[&str] =
    &["idempotency_token", "client_token", "request_token", "dedup_token", "event_token"];

/// Says what is wrong with a key of these sources, of which the first may be the `tenant`.
pub(crate) fn lint(sources: &[&Source], tenant: bool, allow: Option<&Allow>, errors: &mut Errors) {
    let allowed = |lint: Lint| allow.is_some_and(|it| it.lints.iter().any(|(its, _)| *its == lint));
    let mut found = Vec::new();
    let own = &sources[usize::from(tenant).min(sources.len())..];
    if let Some(first) = own.first()
        && own.iter().all(is_times)
    {
        found.push(Lint::TimestampKey);
        if !allowed(Lint::TimestampKey) {
            errors.at(
                first.span(),
                format!(
                    "`{}` is a time by its name: two events can have the same one, and an event that \
                     is sent again can have another; choose an identifier, or add one \
                     (`key = (\"order_id\", ..)`); if it does tell events apart, say why: \
                     `allow(timestamp_key, reason = \"..\")`",
                    shown(first)
                ),
            );
        }
    }
    for source in sources {
        if !names(source).any(|name| is_secret(&name)) {
            continue;
        }
        found.push(Lint::SecretKey);
        if !allowed(Lint::SecretKey) {
            errors.at(
                source.span(),
                format!(
                    "`{}` is named like a secret, and keys are stored and logged in clear; choose \
                     another identifier; if it is no secret, say why: \
                     `allow(secret_key, reason = \"..\")`",
                    shown(source)
                ),
            );
        }
    }
    for (lint, span) in allow.into_iter().flat_map(|allow| &allow.lints) {
        if !found.contains(lint) {
            let what = match lint {
                Lint::TimestampKey => "the key is no time alone",
                Lint::SecretKey => "no part of the key is named like a secret",
            };
            errors.at(*span, format!("`{}` allows nothing: {what}; take it out", lint.name()));
        }
    }
}

/// The names of a source, in one spelling. Those of a function are its own: what it is called is what it
/// returns.
fn names(source: &Source) -> impl Iterator<Item = String> {
    let names: Vec<String> = match source {
        Source::Field(field) => field.names().collect(),
        Source::Header(name) => vec![name.value()],
        Source::With(path) => {
            path.path.segments.last().map(|it| it.ident.unraw().to_string()).into_iter().collect()
        }
        Source::MessageKey(_) | Source::Content(_) => Vec::new(),
    };
    names.into_iter().map(|name| spelling(&name))
}

/// A name as words with underscores between them, however it was written: `createdAt`, `Created-At` and
/// `created.at` are `created_at`, and `APIKey` is `api_key`.
fn spelling(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut words = String::with_capacity(name.len());
    for (i, letter) in letters.iter().enumerate() {
        if matches!(letter, '-' | '.' | '_' | ' ') {
            words.push('_');
            continue;
        }
        let before = i.checked_sub(1).and_then(|i| letters.get(i));
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                // The last of several capitals belongs to the letters behind it.
                let last = letters.get(i + 1).is_some_and(|next| next.is_lowercase());
                before.is_lowercase() || before.is_numeric() || before.is_uppercase() && last
            });
        if begins {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// Whether it has nothing but times.
fn is_times(source: &&Source) -> bool {
    match source {
        // What it is called itself.
        Source::Field(_) | Source::Header(_) | Source::With(_) => {
            names(source).last().is_some_and(|it| is_time(&it))
        }
        Source::Content(Content { selected: Selected::Only { fields, optional }, .. }) => {
            let is = |it: &LitStr| {
                it.value().rsplit('.').next().is_some_and(|it| is_time(&spelling(it)))
            };
            fields.iter().chain(optional).all(is)
        }
        Source::Content(_) | Source::MessageKey(_) => false,
    }
}

/// Whether a name in our spelling is one of a time, in whatever unit.
fn is_time(name: &str) -> bool {
    let is = |name: &str| TIMES.contains(&name) || TIME_ENDS.iter().any(|end| name.ends_with(end));
    is(name) || UNITS.iter().any(|unit| name.strip_suffix(unit).is_some_and(is))
}

fn is_secret(name: &str) -> bool {
    let ends = |end: &&str| {
        name.strip_suffix(*end).is_some_and(|before| before.is_empty() || before.ends_with('_'))
    };
    SECRETS.iter().any(ends) && !TOKENS.iter().any(ends)
}

/// How the user wrote it.
fn shown(source: &Source) -> String {
    match source {
        Source::Field(field) => field.names().collect::<Vec<_>>().join("."),
        Source::Header(name) => name.value(),
        Source::Content(Content { selected: Selected::Only { fields, optional }, .. }) => {
            let fields = fields.iter().chain(optional);
            fields.map(LitStr::value).collect::<Vec<_>>().join(", ")
        }
        Source::With(path) => path.to_token_stream().to_string().replace(' ', ""),
        Source::MessageKey(_) | Source::Content(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_however_it_was_written() {
        for name in
            ["created_at", "createdAt", "CreatedAt", "Created-At", "created.at", "CREATED_AT"]
        {
            assert_eq!(spelling(name), "created_at", "{name}");
        }
        for (name, words) in [
            ("APIKey", "api_key"),
            ("apiKEY", "api_key"),
            ("X-Api-Key", "x_api_key"),
            ("oauth2Token", "oauth2_token"),
            ("orderID", "order_id"),
            ("id", "id"),
            ("", ""),
        ] {
            assert_eq!(spelling(name), words);
        }
    }

    #[test]
    fn times_are_known_by_their_names() {
        for name in ["ts", "created_at", "event_time", "x_timestamp", "date", "createdAt"] {
            assert!(is_time(&spelling(name)), "{name}");
        }
        for name in
            ["eventTime", "timestamp_ms", "timestampMs", "created_millis", "ts_ns", "timeUTC"]
        {
            assert!(is_time(&spelling(name)), "{name}");
        }
        for name in ["id", "state", "update", "seat", "at", "runtime", "times", "status", "items_s"]
        {
            assert!(!is_time(&spelling(name)), "{name}");
        }
        for name in ["formAt3", "dateId", "atoms", "chat", "wheat", "forms", "epoch"] {
            assert!(!is_time(&spelling(name)), "{name}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["password", "user_password", "x_api_key", "set_cookie", "card_number", "pin"] {
            assert!(is_secret(&spelling(name)), "{name}");
        }
        for name in ["apiKey", "APIKey", "accessToken", "clientSecret", "secretKey", "cardNumber"] {
            assert!(is_secret(&spelling(name)), "{name}");
        }
        for name in ["id", "tokens", "tokenizer", "idempotency_token", "secretary", "shipping"] {
            assert!(!is_secret(&spelling(name)), "{name}");
        }
        for name in ["idempotencyToken", "tokenId", "spin", "keyboard"] {
            assert!(!is_secret(&spelling(name)), "{name}");
        }
    }
}
