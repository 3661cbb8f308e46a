//! What generated code names. Not a public API: it changes with the macro, in any release.
//!
//! One door, with absolute paths, so that nothing in the user's scope (a `Result` of their own, a
//! `mod core`) can change what a handler means.

pub use std::time::Duration;

pub use idem_runtime::{
    Answer, Answers, Begun, Call, Content, Event, EventType, EventTypes, Failure, Handler,
    IsolationLevel, Key, KeyError, KeyPart, KeySource, KeyedByEvent, Many, Markers, Maybe,
    MissingKey, Needs, OnFailure, One, Param, PayloadCheck, Policy, Retry, Single, Subscriber,
    UnknownEnd, Window, answer, process,
};
pub mod formats;
pub mod stores;

pub use formats::{decode_json, decode_with, optional};

/// A text that lives as long as the program.
pub type Text = &'static str;
/// Several.
pub type Texts = &'static [&'static str];
/// Texts in pairs.
pub type Pairs = &'static [(&'static str, &'static str)];

/// A text.
pub type Str = str;
/// Yes or no.
pub type Flag = bool;
/// The event types that a handler takes.
pub type Types = Option<Texts>;
/// Where they are.
pub type TypeFrom = Option<EventType>;

/// The event types that a handler takes.
pub const fn types(types: Texts) -> Types {
    Some(types)
}

/// Where the types are.
pub const fn type_from(place: EventType) -> TypeFrom {
    Some(place)
}

/// What a decoded enum of event types is.
pub type DecodedAs<E> = Result<E, idem_runtime::DecodeError>;

/// The answer of an enum that has no variant for a type.
///
/// # Errors
/// Always.
pub fn no_variant<E>(event_type: &str) -> DecodedAs<E> {
    let shown: String = event_type.chars().take(100).collect();
    Err(idem_runtime::DecodeError::new(format!("no variant has the event type {shown:?}")))
}

/// The answer of a handler over an enum of event types to a message without one.
///
/// # Errors
/// Always.
pub fn without_type<E>(_: Encoded<'_>) -> DecodedAs<E> {
    Err(idem_runtime::DecodeError::new("the event has no type that a variant could be chosen by"))
}

/// The message an event was decoded from.
pub type Msg<'a> = Option<&'a Event>;
/// The message, which is there.
pub const fn msg(event: &Event) -> Msg<'_> {
    Some(event)
}
/// What `key` returns.
pub type Keyed = Result<Key, KeyError>;
/// What `handle` returns.
pub type Handled = Result<(), Failure>;
/// What `probe` returns.
pub type Asked = Result<idem_runtime::Probed, Failure>;
/// What `decode` returns.
pub type Decoded<H> = Result<idem_runtime::EventOf<H>, idem_runtime::DecodeError>;
/// What `decode` is given.
pub type Encoded<'a> = idem_runtime::Encoded<'a>;
/// How the schema of an event is found.
pub type SchemaId = Option<idem_runtime::SchemaOf>;
/// What `process` returns.
pub type Processed = idem_runtime::Result<idem_runtime::Outcome>;
/// What `process` returns when results are stored.
pub type Answered<H> =
    idem_runtime::Result<idem_runtime::Outcome<<H as idem_runtime::Answers>::Answer>>;

/// The key in a header of the message.
///
/// # Errors
/// When there is no message, or no such key.
pub fn key_of_header(source: Msg<'_>, name: &'static str) -> Keyed {
    Key::header(message(source)?, name)
}

/// The place of the message as a key.
///
/// # Errors
/// When there is no message.
pub fn key_of_offset(source: Msg<'_>) -> Keyed {
    Key::offset(message(source)?)
}

/// The message key.
///
/// # Errors
/// When there is no message, or it has none.
pub fn key_of_message_key(source: Msg<'_>) -> Keyed {
    Key::message_key(message(source)?)
}

/// The hash of what the message says.
///
/// # Errors
/// When there is no message, or it has no content, or none with a single meaning.
pub fn content_key(source: Msg<'_>, content: Content) -> Keyed {
    Key::content(message(source)?, content)
}

/// The hash of what the message says in another format than JSON.
///
/// # Errors
/// When there is no message, or it has no payload.
pub fn payload_key(source: Msg<'_>) -> Keyed {
    Key::payload(message(source)?)
}

/// The hash of what a CloudEvent says.
///
/// # Errors
/// When there is no message, or it has no data, or is no CloudEvent.
pub fn cloud_event_key(source: Msg<'_>) -> Keyed {
    Key::cloud_event_data(message(source)?)
}

/// A header of the message as a part of a key of several parts.
///
/// # Errors
/// When there is no message, or no such header.
pub fn header_part<'a>(source: Msg<'a>, name: &'static str) -> Result<&'a str, KeyError> {
    message(source)?.header_text(name)
}

/// The message key as a part of a key of several parts.
///
/// # Errors
/// When there is no message, or it has none.
pub fn message_key_part(source: Msg<'_>) -> Result<std::borrow::Cow<'_, str>, KeyError> {
    message(source)?.message_key_text()
}

/// What the user's function makes of the event.
pub fn made_by<'a, E, P>(event: &'a E, path: impl FnOnce(&'a E) -> P) -> P {
    path(event)
}

fn message(source: Msg<'_>) -> Result<&Event, KeyError> {
    source.ok_or_else(|| KeyError::new("the key is in the Kafka message, and there is no message"))
}

/// A part of a key of several parts.
pub fn key_part<P: KeyPart>(part: &P) -> &dyn KeyPart {
    part
}

/// Fails to compile when more than one parameter is the transaction's connection.
///
/// # Panics
/// When there is more than one.
pub const fn one_connection(are_connections: &[bool]) {
    let (mut seen, mut i) = (false, 0);
    while i < are_connections.len() {
        assert!(
            !(seen && are_connections[i]),
            "a handler has one connection: it is the transaction, and there is only one"
        );
        seen |= are_connections[i];
        i += 1;
    }
}

/// What a handler can return.
#[diagnostic::on_unimplemented(
    message = "a handler returns `Result<(), E>`, not `{Self}`",
    label = "not what a handler returns",
    note = "`Ok(())` says that its effects are complete; an error undoes them, and the event is \
            tried again",
    note = "with `store_result` in its attribute it can return a value, which duplicates are given"
)]
pub trait Returned {
    /// The handler's own error.
    type Error: HandlerError;

    /// The result, which is what it is.
    ///
    /// # Errors
    /// The handler's.
    fn result(self) -> Result<(), Self::Error>;
}

impl<E: HandlerError> Returned for Result<(), E> {
    type Error = E;

    fn result(self) -> Self {
        self
    }
}

/// What a probe found out.
///
/// # Errors
/// The probe's.
pub fn probed<E: HandlerError>(answer: Result<idem_runtime::Probed, E>) -> Asked {
    answer.map_err(HandlerError::into_failure)
}

/// What a handler whose results are stored can return.
#[diagnostic::on_unimplemented(
    message = "a handler whose results are stored returns `Result<T, E>`, not `{Self}`",
    label = "not what such a handler returns",
    note = "`T` is what is stored: it derives `serde::Serialize` and `serde::Deserialize`"
)]
pub trait ReturnedAnswer {
    /// What is stored.
    type Answer: Answer;
    /// The handler's own error.
    type Error: HandlerError;

    /// The result, which is what it is.
    ///
    /// # Errors
    /// The handler's.
    fn result(self) -> Result<Self::Answer, Self::Error>;
}

impl<T: Answer, E: HandlerError> ReturnedAnswer for Result<T, E> {
    type Answer = T;
    type Error = E;

    fn result(self) -> Self {
        self
    }
}

/// What a handler whose results are stored returned, as the runtime takes it.
///
/// # Errors
/// The handler's.
pub fn finish_answer<R: ReturnedAnswer>(returned: R) -> Result<R::Answer, Failure> {
    returned.result().map_err(HandlerError::into_failure)
}

/// What a handler whose results are stored returned, for [`finish_with`].
///
/// # Errors
/// The handler's.
pub fn answer_of<R: ReturnedAnswer>(returned: R) -> Result<R::Answer, R::Error> {
    returned.result()
}

/// What a handler returned, as the runtime takes it.
///
/// # Errors
/// The handler's.
pub fn finish<R: Returned>(returned: R) -> Handled {
    returned.result().map_err(HandlerError::into_failure)
}

/// What a handler returned, for [`finish_with`].
///
/// # Errors
/// The handler's.
pub fn result<R: Returned>(returned: R) -> Result<(), R::Error> {
    returned.result()
}

/// As [`finish`], with the handler's own word on which of its errors are permanent.
///
/// # Errors
/// The handler's.
pub fn finish_with<T, E: HandlerError>(
    result: Result<T, E>,
    is_permanent: fn(&E) -> bool,
) -> Result<T, Failure> {
    result.map_err(|error| {
        let permanent = is_permanent(&error);
        let failure = error.into_failure();
        if permanent { failure.into_permanent() } else { failure }
    })
}

/// What a handler can fail with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's error",
    label = "not an error",
    note = "implement `std::error::Error` for it (the crate `thiserror` derives it), or use a type \
            that has it, such as `sqlx::Error`, `anyhow::Error` or `idem::Failure`; it has to be \
            `Send + Sync + 'static` too"
)]
pub trait HandlerError {
    /// The error as the runtime takes it.
    fn into_failure(self) -> Failure;
}

#[diagnostic::do_not_recommend]
impl<E: Into<Failure>> HandlerError for E {
    fn into_failure(self) -> Failure {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handlers_word_makes_a_failure_permanent_and_keeps_its_error() {
        let failed = |permanent: fn(&std::fmt::Error) -> bool| {
            finish_with(result(Err(std::fmt::Error)), permanent).expect_err("it failed")
        };
        let permanent = failed(|_| true);
        assert!(permanent.is_permanent());
        let source = permanent.error().source();
        assert!(source.is_some_and(|it| it.is::<std::fmt::Error>()));
        assert!(!failed(|_| false).is_permanent());
    }

    #[test]
    fn what_is_permanent_already_stays_so() {
        let failure = finish_with(result(Err(Failure::permanent("refused"))), |_| false);
        assert!(failure.expect_err("it failed").is_permanent());
    }

    #[test]
    fn a_success_is_not_judged() {
        let done = finish_with(result(Ok::<(), Failure>(())), |_| panic!("it did not fail"));
        assert!(done.is_ok());
    }
}
