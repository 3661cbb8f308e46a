//! Dead letters: events that were given up on, with their origin, error and attempts; and events
//! that wait behind one of the same message key.

use std::fmt;
use std::time::SystemTime;

use crate::error::BoxError;
use crate::event::Event;
use crate::key::Key;
use crate::routing::Correlation;

/// What a dead letter's row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LetterState {
    /// Given up on.
    Dead,
    /// Given up on, and later events of its message key wait behind it.
    Parked,
    /// Never tried: it waits behind a parked event of its message key.
    Waiting,
    /// Worked after all: its effects are committed, or its key had been processed by another event.
    Replayed,
    /// Dropped by a person.
    Dropped,
}

impl LetterState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Dead, Self::Parked, Self::Waiting, Self::Replayed, Self::Dropped];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Parked => "parked",
            Self::Waiting => "waiting",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }

    /// The state for the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// Whether nothing is left to do: replayed or dropped.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Replayed | Self::Dropped)
    }
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// The handler returned an error.
    Handler,
    /// The handler panicked.
    Panic,
    /// The handler took longer than its timeout.
    Timeout,
    /// The handler ended or broke its transaction, or its effects were refused at the commit.
    Transaction,
    /// The connection to the database broke each time the event was handled.
    Connection,
    /// The process died each time the event was handled.
    Crash,
    /// The payload does not decode.
    Decode,
    /// The event has no usable key.
    Key,
    /// An event with another payload arrived under the key of a dead letter.
    Correction,
    /// An event with another payload arrived under the key of one that was processed.
    KeyReuse,
    /// An attempt with effects outside of the database was begun, and its end is not known.
    UnknownEnd,
    /// No handler of the group wants an event of this type.
    Unmatched,
    /// Whether it was processed is not known any more: it lies below the floor of a window.
    Stale,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Handler,
        Self::Panic,
        Self::Timeout,
        Self::Transaction,
        Self::Connection,
        Self::Crash,
        Self::Decode,
        Self::Key,
        Self::Correction,
        Self::KeyReuse,
        Self::UnknownEnd,
        Self::Unmatched,
        Self::Stale,
    ];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Transaction => "transaction",
            Self::Connection => "connection",
            Self::Crash => "crash",
            Self::Decode => "decode",
            Self::Key => "key",
            Self::Correction => "correction",
            Self::KeyReuse => "key_reuse",
            Self::UnknownEnd => "unknown_end",
            Self::Unmatched => "unmatched",
            Self::Stale => "stale",
        }
    }

    /// The class for the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Why an event was given up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// Whether trying again was of no use, as opposed to attempts that were used up.
    pub permanent: bool,
    /// The error and its sources in one line, at most [`MAX_ERROR_LEN`] bytes.
    pub error: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// When the first of them failed.
    pub first_failed_at: SystemTime,
}

/// The longest error text that is kept, in bytes.
pub const MAX_ERROR_LEN: usize = 4096;

impl Cause {
    /// A number that is the same for failures that look the same: the class, and the error without
    /// its numbers and quoted values. For grouping.
    pub fn fingerprint(&self, scope: &str) -> String {
        let mut hash = Fnv::default();
        hash.part(scope.as_bytes());
        hash.part(self.class.as_str().as_bytes());
        hash.part(shape(&self.error).as_bytes());
        format!("{:016x}", hash.0)
    }
}

/// A text without what differs between two failures of one kind: words with a digit in them, and
/// what stands in quotes.
fn shape(error: &str) -> String {
    let mut shape = String::with_capacity(error.len());
    let mut quote = None;
    let mut word = String::new();
    let flush = |word: &mut String, shape: &mut String| {
        shape.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        word.clear();
    };
    for c in error.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => {
                flush(&mut word, &mut shape);
                shape.push('"');
                quote = Some(c);
            }
            None if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') => word.push(c),
            None => {
                flush(&mut word, &mut shape);
                shape.push(c);
            }
        }
    }
    flush(&mut word, &mut shape);
    shape
}

/// A dead letter to write, or an event that is to wait behind one.
#[derive(Debug, Clone)]
pub struct NewLetter<'a> {
    /// Whose event it is.
    pub scope: &'a str,
    /// Its key, if it has one.
    pub key: Option<&'a Key>,
    /// The event, as it was worked.
    pub event: &'a Event,
    /// The [digest](Event::digest) of the event as it came, which tells its letter: one that waited can
    /// have been edited before it was worked.
    pub digest: i64,
    /// [`Dead`](LetterState::Dead), [`Parked`](LetterState::Parked) or
    /// [`Waiting`](LetterState::Waiting).
    pub state: LetterState,
    /// Why it was given up on; `None` for one that waits.
    pub cause: Option<&'a Cause>,
}

impl NewLetter<'_> {
    /// Whether it is only written when its key was new. If there is a letter of its event that is
    /// settled, that one's key was forgotten, and it is opened again.
    pub fn had_a_new_key(&self) -> bool {
        let class = self.cause.map(|cause| cause.class);
        self.key.is_some()
            && !matches!(class, Some(FailureClass::Correction | FailureClass::KeyReuse))
    }
}

/// A dead letter as the database has it.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Whose event it is.
    pub scope: String,
    /// Its key; `None` when it has none, or could not be decoded.
    pub key: Option<Key>,
    /// What became of it.
    pub state: LetterState,
    /// The consumer group that gave it up.
    pub group: String,
    /// The event, with what a person put in place of its payload, headers or message key, if somebody
    /// did.
    pub event: Event,
    /// Whether [`event`](Self::event) was edited, and may not be what it came as.
    pub edited: bool,
    /// The [digest](Event::digest) of the event as it came.
    pub digest: i64,
    /// Why it was given up on; `None` for one that waits.
    pub cause: Option<Cause>,
    /// The same for failures that look the same.
    pub fingerprint: String,
    /// When it was written.
    pub written_at: SystemTime,
}

/// Without the payload, which is shown only on request.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .field("key", &self.key)
            .field("state", &self.state)
            .field("event", &self.event)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl DeadLetter {
    /// A dead letter with these parts and nothing else.
    pub fn new(id: i64, scope: String, state: LetterState, group: String, event: Event) -> Self {
        Self {
            id,
            scope,
            key: None,
            state,
            group,
            digest: event.digest(),
            event,
            edited: false,
            cause: None,
            fingerprint: String::new(),
            written_at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// Which dead letters.
///
/// ```
/// use idem_runtime::{FailureClass, LetterFilter};
///
/// let timeouts = LetterFilter::new().scope("bill").class(FailureClass::Timeout).limit(100);
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LetterFilter {
    /// These, by number.
    pub ids: Option<Vec<i64>>,
    /// Of this scope.
    pub scope: Option<String>,
    /// With this key, as it is written.
    pub key: Option<String>,
    /// From this topic.
    pub topic: Option<String>,
    /// In this state.
    pub state: Option<LetterState>,
    /// Of this class.
    pub class: Option<FailureClass>,
    /// That look the same.
    pub fingerprint: Option<String>,
    /// Whose event has this header with this value, which is the last one of that name.
    pub header: Option<(String, Vec<u8>)>,
    /// Written at or after this time.
    pub since: Option<SystemTime>,
    /// Written before this time.
    pub until: Option<SystemTime>,
    /// With a number above this one: for pages.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl LetterFilter {
    /// All of them, in the order of their numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// This one.
    pub fn id(id: i64) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// Of this scope.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// With this key, as it is written: [`Key::as_str`].
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// From this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// In this state.
    #[must_use]
    pub fn state(mut self, state: LetterState) -> Self {
        self.state = Some(state);
        self
    }

    /// Of this class.
    #[must_use]
    pub fn class(mut self, class: FailureClass) -> Self {
        self.class = Some(class);
        self
    }

    /// That look the same.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    /// Whose event has this header with this value, which is the last one of that name. Headers have no
    /// index: with a scope or a time there is less to look through.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.header = Some((name.into(), value.into()));
        self
    }

    /// Whose event has this correlation id, in the header `correlation-id`. Where a group reads it from
    /// another one ([`Correlation::headers`](crate::Correlation::headers)), ask for
    /// [that header](Self::header).
    #[must_use]
    pub fn correlation_id(self, id: impl Into<String>) -> Self {
        self.header(Correlation::HEADER, id.into())
    }

    /// Written at or after this time.
    #[must_use]
    pub fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Written before this time.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, letters: u32) -> Self {
        self.limit = Some(letters);
        self
    }
}

/// Something that a person did with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LetterNote {
    /// When.
    pub at: SystemTime,
    /// What.
    pub action: LetterAction,
    /// Who, in words of the caller.
    pub by: String,
    /// Why, or with what result.
    pub note: Option<String>,
}

impl LetterNote {
    /// A note.
    pub fn new(at: SystemTime, action: LetterAction, by: String, note: Option<String>) -> Self {
        Self { at, action, by, note }
    }
}

/// Who opens a settled letter again, in its history.
pub const REOPENED_BY: &str = "idem";
/// And why.
pub const REOPENED_NOTE: &str = "its key was forgotten, and its event given up on again";

/// What can be done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LetterAction {
    /// It was replayed, and its effects are committed.
    Replayed,
    /// It was replayed, and its key had been processed by another event.
    Superseded,
    /// It was replayed, and failed again.
    ReplayFailed,
    /// It was dropped.
    Dropped,
    /// Its payload, headers or message key were replaced.
    Edited,
    /// Its key was forgotten after it was settled, its event came again, and was given up on again.
    Reopened,
}

impl LetterAction {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Replayed,
        Self::Superseded,
        Self::ReplayFailed,
        Self::Dropped,
        Self::Edited,
        Self::Reopened,
    ];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Superseded => "superseded",
            Self::ReplayFailed => "replay_failed",
            Self::Dropped => "dropped",
            Self::Edited => "edited",
            Self::Reopened => "reopened",
        }
    }

    /// The action for the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// The error and its sources, no longer than is kept.
pub(crate) fn error_text(error: &BoxError) -> String {
    let mut text = crate::error::report(error.as_ref());
    if text.len() > MAX_ERROR_LEN {
        text.truncate(text.floor_char_boundary(MAX_ERROR_LEN - 3));
        text.push('…');
    }
    // No database keeps it in a text.
    text.replace('\0', "\\0")
}

/// FNV-1a, 64 bits: for telling apart, not for secrets.
pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A part that cannot run into the next one.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_be_bytes());
        self.bytes(bytes);
    }
}

impl Event {
    /// A number that tells apart two events at the same place of two logs: of the message key and
    /// the payload.
    pub fn digest(&self) -> i64 {
        let mut hash = Fnv::default();
        for part in [&self.message_key, &self.payload] {
            match part {
                Some(bytes) => hash.part(bytes),
                None => hash.bytes(&[0]),
            }
        }
        hash.0.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(error: &str) -> Cause {
        Cause {
            class: FailureClass::Handler,
            permanent: false,
            error: error.to_owned(),
            attempts: 1,
            first_failed_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn failures_of_one_kind_have_one_fingerprint() {
        let a = cause("order 17 has no customer `ann`: timeout after 2.5s");
        let b = cause("order 18 has no customer `bob`: timeout after 3s");
        assert_eq!(a.fingerprint("bill"), b.fingerprint("bill"));
        assert_ne!(a.fingerprint("bill"), a.fingerprint("audit"));
        assert_ne!(a.fingerprint("bill"), cause("no such order").fingerprint("bill"));
    }

    #[test]
    fn an_error_text_is_cut_between_characters() {
        let error: BoxError = "ü".repeat(MAX_ERROR_LEN).into();
        let text = error_text(&error);
        assert!(text.len() <= MAX_ERROR_LEN && text.ends_with("ü…"), "{}", text.len());
    }

    #[test]
    fn words_of_the_database_come_back() {
        for state in LetterState::ALL {
            assert_eq!(LetterState::parse(state.as_str()), Some(state));
        }
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::parse(class.as_str()), Some(class));
        }
        for action in LetterAction::ALL {
            assert_eq!(LetterAction::parse(action.as_str()), Some(action));
        }
    }

    #[test]
    fn a_digest_tells_key_and_payload_apart() {
        let event = |key: Option<&'static str>, payload: &'static str| {
            let mut event = Event::new("t".into(), 0, 0, payload);
            event.message_key = key.map(bytes::Bytes::from);
            event.digest()
        };
        assert_eq!(event(Some("a"), "b"), event(Some("a"), "b"));
        assert_ne!(event(Some("ab"), ""), event(Some("a"), "b"));
        assert_ne!(event(None, "b"), event(Some(""), "b"));
    }
}
