//! A dead letter's row.

use std::sync::Arc;

use idem_runtime::{Cause, DeadLetter, Event, FailureClass, Headers, Key, LetterState};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use crate::error::undecodable;
use crate::{hex, time};

/// Selects dead letters, of the table that is named `letter` in what follows.
macro_rules! select_letters {
    ($which:expr) => {
        concat!(
            "select letter.dead_letter_id, letter.scope, event_key, state, group_name, topic,
                partition, source_offset, event_timestamp, leader_epoch, failure_class,
                is_permanent, attempts, first_failed_at, fingerprint, written_at,
                is_edited or are_headers_edited or is_message_key_edited as is_edited, error, digest,
                case when is_message_key_edited then edited_message_key
                     else letter.message_key end as message_key,
                case when are_headers_edited then edited_headers else headers end as headers,
                case when is_edited then edited_payload else payload end as payload
             from ",
            $which
        )
    };
}
pub(crate) use select_letters;

/// A row as such a statement selects it.
pub(crate) struct Selected(DeadLetter);

pub(crate) fn letters(rows: Vec<Selected>) -> Vec<DeadLetter> {
    rows.into_iter().map(|row| row.0).collect()
}

pub(crate) fn letter(row: Option<Selected>) -> Option<DeadLetter> {
    row.map(|row| row.0)
}

impl<'r> FromRow<'r, SqliteRow> for Selected {
    fn from_row(row: &'r SqliteRow) -> sqlx::Result<Self> {
        let state = word("state", LetterState::parse, row.try_get("state")?)?;
        let (id, scope) = (row.try_get("dead_letter_id")?, row.try_get("scope")?);
        let mut letter = DeadLetter::new(id, scope, state, row.try_get("group_name")?, event(row)?);
        let key: Option<String> = row.try_get("event_key")?;
        letter.key = key.map(Key::written).transpose().map_err(undecodable)?;
        letter.digest = row.try_get("digest")?;
        letter.edited = row.try_get("is_edited")?;
        letter.cause = cause(row)?;
        letter.fingerprint = row.try_get::<Option<_>, _>("fingerprint")?.unwrap_or_default();
        letter.written_at = time::from_millis(row.try_get("written_at")?);
        Ok(Self(letter))
    }
}

fn event(row: &SqliteRow) -> sqlx::Result<Event> {
    let topic = Arc::from(row.try_get::<&str, _>("topic")?);
    let (partition, offset) = (row.try_get("partition")?, row.try_get("source_offset")?);
    let mut event = Event::new(topic, partition, offset, Vec::new());
    event.payload = row.try_get::<Option<Vec<u8>>, _>("payload")?.map(Into::into);
    event.message_key = row.try_get::<Option<Vec<u8>>, _>("message_key")?.map(Into::into);
    event.leader_epoch = row.try_get("leader_epoch")?;
    event.timestamp = row.try_get("event_timestamp")?;
    if let Some(text) = row.try_get::<Option<&str>, _>("headers")? {
        event.headers = read_headers(text)?;
    }
    Ok(event)
}

fn cause(row: &SqliteRow) -> sqlx::Result<Option<Cause>> {
    let Some(class) = row.try_get::<Option<&str>, _>("failure_class")? else { return Ok(None) };
    Ok(Some(Cause {
        class: word("failure class", FailureClass::parse, class)?,
        permanent: row.try_get::<Option<_>, _>("is_permanent")?.unwrap_or_default(),
        error: row.try_get::<Option<_>, _>("error")?.unwrap_or_default(),
        attempts: row.try_get("attempts")?,
        first_failed_at: time::from_millis(
            row.try_get::<Option<_>, _>("first_failed_at")?.unwrap_or_default(),
        ),
    }))
}

/// A word of the database.
pub(crate) fn word<T>(
    what: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    word: &str,
) -> sqlx::Result<T> {
    parse(word).ok_or_else(|| {
        let message = format!("the {what} `{word}`, which this release of idem does not know");
        sqlx::Error::Decode(message.into())
    })
}

/// The headers as a column keeps them; `None` when there are none.
///
/// # Errors
/// None that is known: names are text, and values are written in hex.
pub(crate) fn write_headers(headers: &Headers) -> serde_json::Result<Option<String>> {
    if headers.is_empty() {
        return Ok(None);
    }
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name, value.map(hex::encode))).collect();
    serde_json::to_string(&headers).map(Some)
}

fn read_headers(text: &str) -> sqlx::Result<Headers> {
    let headers: Vec<(String, Option<String>)> = serde_json::from_str(text).map_err(undecodable)?;
    headers
        .into_iter()
        .map(|(name, value)| Ok((name, value.as_deref().map(hex::decode).transpose()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_their_duplicates_and_their_absent_values() {
        let headers: Headers = [
            ("trace", Some(&b"\x00\xff"[..])),
            ("trace", None),
            ("", Some(b"")),
            ("quote \" \0", Some(b"x")),
        ]
        .into_iter()
        .collect();
        let text = write_headers(&headers).unwrap().unwrap();
        let read = read_headers(&text).unwrap();
        assert!(read.iter().eq(headers.iter()), "{text}");
    }

    #[test]
    fn no_headers_are_null() {
        assert_eq!(write_headers(&Headers::default()).unwrap(), None);
    }
}
