//! Correlation and causation ids: what an event belongs to, and what it was caused by.

use std::borrow::Cow;

use crate::event::Event;

/// The longest id that is read, in bytes.
const MAX_LEN: usize = 255;

/// The headers with an event's correlation and causation ids.
///
/// ```
/// use idem_runtime::Correlation;
///
/// let ours = Correlation::headers("x-request-id", "x-caused-by");
/// assert_eq!(Correlation::default(), Correlation::headers("correlation-id", "causation-id"));
/// # drop(ours);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    correlation: Cow<'static, str>,
    causation: Cow<'static, str>,
}

/// `correlation-id` and `causation-id`.
impl Default for Correlation {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Correlation {
    /// The header that a correlation id is in, if nobody says otherwise.
    pub(crate) const HEADER: &'static str = "correlation-id";

    pub(crate) const DEFAULT: Self =
        Self { correlation: Cow::Borrowed(Self::HEADER), causation: Cow::Borrowed("causation-id") };

    /// The headers of these names: what a chain of events has in common, and the event that caused
    /// this one.
    pub fn headers(
        correlation: impl Into<Cow<'static, str>>,
        causation: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { correlation: correlation.into(), causation: causation.into() }
    }

    /// The event's correlation id, if it has one.
    pub(crate) fn correlation_of<'e>(&self, event: &'e Event) -> Option<&'e str> {
        id(event, &self.correlation)
    }

    /// The event's causation id, if it has one.
    pub(crate) fn causation_of<'e>(&self, event: &'e Event) -> Option<&'e str> {
        id(event, &self.causation)
    }
}

fn id<'e>(event: &'e Event, header: &str) -> Option<&'e str> {
    if event.headers.is_empty() {
        return None;
    }
    let value = event.headers.get(header).filter(|value| !value.is_empty())?;
    let text = std::str::from_utf8(value).ok();
    // No database keeps a NUL in a text.
    let id = text.filter(|text| text.len() <= MAX_LEN && !text.contains('\0'));
    if id.is_none() {
        tracing::debug!(
            topic = %event.topic,
            partition = event.partition,
            offset = event.offset,
            header,
            "not an id: it has more than 255 bytes, or is not text; ignored"
        );
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_id_is_none() {
        let long = "x".repeat(256);
        let mut event = Event::new("t".into(), 0, 0, "x");
        event.headers = [
            ("good", Some("c-1".as_bytes())),
            ("long", Some(long.as_bytes())),
            ("longest", Some(&long.as_bytes()[..255])),
            ("binary", Some(b"\xff")),
            ("nul", Some(b"a\0b")),
            ("empty", Some(b"")),
            ("null", None),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.map(bytes::Bytes::copy_from_slice)))
        .collect();
        let id = |name: &'static str| Correlation::headers(name, "x").correlation_of(&event);
        assert_eq!(id("good"), Some("c-1"));
        assert_eq!(id("longest").map(str::len), Some(255));
        for name in ["long", "binary", "nul", "empty", "null", "absent"] {
            assert_eq!(id(name), None, "{name}");
        }
        assert_eq!(Correlation::headers("x", "good").causation_of(&event), Some("c-1"));
    }
}
