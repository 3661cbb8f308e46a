//! What a person puts in place of parts of a dead letter's event.

use std::fmt;

use bytes::Bytes;

use crate::dead_letter::{DeadLetter, LetterState};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Headers;
use crate::store::Edit;

/// What is put in place of parts of a dead letter's event, for
/// [`DeadLetters::edit_event`](crate::DeadLetters::edit_event). What it does not name stays as it is.
///
/// ```
/// use idem_runtime::LetterEdit;
///
/// let edit = LetterEdit::new()
///     .payload(r#"{"event_id":"e18","cents":100}"#)
///     .header("idempotency-key", "e18")
///     .without_header("trace");
/// ```
#[derive(Clone, Default)]
pub struct LetterEdit {
    payload: Option<Option<Bytes>>,
    message_key: Option<Option<Bytes>>,
    /// Names and their new values, in the order in which they were named; `None`: there is to be none.
    headers: Vec<(Box<str>, Option<Bytes>)>,
}

impl LetterEdit {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = Some(Some(payload.into()));
        self
    }

    /// No payload.
    #[must_use]
    pub fn tombstone(mut self) -> Self {
        self.payload = Some(None);
        self
    }

    /// A header, in place of all of this name.
    #[must_use]
    pub fn header(mut self, name: impl Into<Box<str>>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// No header of this name.
    #[must_use]
    pub fn without_header(mut self, name: impl Into<Box<str>>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Another message key. Not of a letter that is parked, or waits behind one: the message key is what
    /// keeps them in their order.
    #[must_use]
    pub fn message_key(mut self, message_key: impl Into<Bytes>) -> Self {
        self.message_key = Some(Some(message_key.into()));
        self
    }

    /// No message key, with the same exception.
    #[must_use]
    pub fn without_message_key(mut self) -> Self {
        self.message_key = Some(None);
        self
    }

    /// Whether it can be done to this letter.
    pub(crate) fn check(&self, letter: &DeadLetter) -> Result<()> {
        let parked = matches!(letter.state, LetterState::Parked | LetterState::Waiting);
        if !parked || self.message_key.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "dead letter {} is {} by its message key, which keeps it and what waits behind it in \
                 order: it cannot have another one",
                letter.id,
                letter.state.as_str()
            ),
        ))
    }

    /// All headers that the letter's event has then, if they are edited.
    pub(crate) fn headers_in(&self, letter: &DeadLetter) -> Option<Headers> {
        if self.headers.is_empty() {
            return None;
        }
        let mut headers: Vec<(Box<str>, Option<Bytes>)> = letter
            .event
            .headers
            .iter()
            .map(|(name, value)| (name.into(), value.map(Bytes::copy_from_slice)))
            .collect();
        for (name, value) in &self.headers {
            headers.retain(|(it, _)| it != name);
            headers.extend(value.clone().map(|value| (name.clone(), Some(value))));
        }
        Some(headers.into_iter().collect())
    }

    /// In the words of a store.
    pub(crate) fn in_store<'a>(&'a self, headers: Option<&'a Headers>) -> Edit<'a> {
        Edit {
            payload: self.payload.as_ref().map(Option::as_deref),
            headers,
            message_key: self.message_key.as_ref().map(Option::as_deref),
        }
    }

    /// What the history says: the reason, and where it is not the payload alone, what was edited.
    pub(crate) fn note(&self, reason: &str) -> String {
        let headers = self.headers.iter().map(|(name, _)| format!("header `{name}`"));
        let payload = self.payload.iter().map(|_| "payload".to_owned());
        let message_key = self.message_key.iter().map(|_| "message key".to_owned());
        let parts: Vec<_> = payload.chain(headers).chain(message_key).collect();
        match parts.as_slice() {
            [] => reason.to_owned(),
            [payload] if self.payload.is_some() && payload == "payload" => reason.to_owned(),
            parts => format!("{}: {reason}", parts.join(", ")),
        }
    }
}

/// Without what is put in place, which is shown only on request.
impl fmt::Debug for LetterEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LetterEdit")
            .field("payload", &self.payload.is_some())
            .field("message_key", &self.message_key.is_some())
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn letter(state: LetterState) -> DeadLetter {
        let mut event = Event::new("t".into(), 0, 0, "{}");
        let headers = [("a", Some("1")), ("b", Some("2")), ("a", None), ("c", Some("3"))];
        event.headers = headers.into_iter().collect();
        DeadLetter::new(7, "bill".into(), state, "g".into(), event)
    }

    #[test]
    fn a_header_stands_in_place_of_all_of_its_name_and_the_others_stay() {
        let letter = letter(LetterState::Dead);
        assert!(LetterEdit::new().payload("x").headers_in(&letter).is_none());
        let edit = LetterEdit::new().header("a", "4").without_header("c").header("d", "");
        let headers = edit.headers_in(&letter).unwrap();
        let headers: Vec<_> = headers.iter().collect();
        assert_eq!(headers, [("b", Some(&b"2"[..])), ("a", Some(b"4")), ("d", Some(b""))]);
        let none = LetterEdit::new().without_header("a").without_header("b").without_header("c");
        assert!(none.headers_in(&letter).is_some_and(|headers| headers.is_empty()));
    }

    #[test]
    fn what_is_parked_keeps_its_message_key() {
        let edit = LetterEdit::new().message_key("k");
        for state in [LetterState::Parked, LetterState::Waiting] {
            let error = edit.check(&letter(state)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(state.as_str()), "{error}");
            assert!(LetterEdit::new().header("a", "1").check(&letter(state)).is_ok());
        }
        assert!(edit.check(&letter(LetterState::Dead)).is_ok());
    }

    #[test]
    fn the_history_says_what_was_edited_and_not_with_what() {
        let payload = LetterEdit::new().payload("hunter2");
        assert_eq!(payload.note("a typo"), "a typo");
        let all = payload.header("auth", "hunter2").message_key("hunter2");
        assert_eq!(all.note("a typo"), "payload, header `auth`, message key: a typo");
        assert!(!format!("{all:?}").contains("hunter2"));
    }
}
