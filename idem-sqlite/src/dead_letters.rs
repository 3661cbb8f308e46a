//! Giving up: dead letters, written in the transaction of the lane.

use idem_runtime::lane::Held;
use idem_runtime::{
    Error, ErrorKind, LetterAction, LetterState, NewLetter, REOPENED_BY, REOPENED_NOTE, Result,
};

use crate::error::{failed, unwritable};
use crate::letter_row::write_headers;
use crate::parking::{self, Place};
use crate::tx::Tx;
use crate::{Inner, time};

const DOING: &str = "giving up on an event";

/// The lane and the state of the letter of this event, when it is there.
pub(crate) const THERE: &str = "
select lane_id, state
from {schema}dead_letters
where scope = ?2 and topic = ?3
  and coalesce(topic_id, '')
      = coalesce((select lane.topic_id from {schema}lanes lane where lane.lane_id = ?1), '')
  and partition = ?4 and source_offset = ?5 and digest = ?6
";

/// One that is there stays as it is, but for one that waits and is now given up on itself, and one that
/// is settled and whose key was forgotten since. Only what was written comes back. The former keeps its
/// key: that is its event's, as it came, whatever was made of it before it was worked.
pub(crate) const WRITE: &str = "
insert into {schema}dead_letters
    (lane_id, group_name, topic_id, scope, topic, partition, source_offset, digest, event_key,
     state, event_timestamp, leader_epoch, message_key, headers, payload, failure_class,
     is_permanent, error, attempts, first_failed_at, fingerprint)
select lane_id, group_name, topic_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
       ?15, ?16, ?17, ?18, ?19
from {schema}lanes
where lane_id = ?1
on conflict (scope, topic, coalesce(topic_id, ''), partition, source_offset, digest) do update
set state = excluded.state, lane_id = excluded.lane_id, group_name = excluded.group_name,
    event_key = case when state = 'waiting' then event_key else excluded.event_key end,
    failure_class = excluded.failure_class,
    is_permanent = excluded.is_permanent, error = excluded.error, attempts = excluded.attempts,
    first_failed_at = excluded.first_failed_at, fingerprint = excluded.fingerprint,
    settled_at = null, forwarded_at = null,
    is_message_key_edited = case when state = 'waiting' then is_message_key_edited else 0 end,
    edited_message_key = case when state = 'waiting' then edited_message_key end
where state = 'waiting' and excluded.state <> 'waiting' or state in ('replayed', 'dropped') and ?20
returning dead_letter_id
";

pub(crate) async fn give_up(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letters: &[NewLetter<'_>],
) -> Result<()> {
    for letter in letters {
        if !matches!(letter.state, LetterState::Dead | LetterState::Parked | LetterState::Waiting) {
            let state = letter.state.as_str();
            let message = format!("{DOING}: a letter is not written as `{state}`");
            return Err(Error::new(ErrorKind::Store, message));
        }
        let there = there(store, tx, held, letter).await;
        let there = there.map_err(|error| failed(DOING, error))?;
        let Some(id) = write(store, tx, held, letter).await? else { continue };
        let waited = match there {
            Some((lane, LetterState::Waiting)) => Some(lane),
            Some((_, state)) if state.is_settled() => {
                note_reopened(store, tx, id).await.map_err(|error| failed(DOING, error))?;
                None
            }
            _ => None,
        };
        park(store, tx, held, letter, waited).await?;
    }
    Ok(())
}

/// The lane and the state of the letter of this event.
async fn there(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letter: &NewLetter<'_>,
) -> sqlx::Result<Option<(i64, LetterState)>> {
    let there: Option<(i64, String)> = sqlx::query_as(store.sql.letter_is_there.clone())
        .bind(held.number)
        .bind(letter.scope)
        .bind(&*letter.event.topic)
        .bind(letter.event.partition)
        .bind(letter.event.offset)
        .bind(letter.digest)
        .fetch_optional(tx.connection())
        .await?;
    Ok(there.and_then(|(lane, state)| Some((lane, LetterState::parse(&state)?))))
}

async fn note_reopened(store: &Inner, tx: &mut Tx, id: i64) -> sqlx::Result<()> {
    let note = sqlx::query(store.sql.note_on_letter.clone()).bind(id);
    let note = note.bind(LetterAction::Reopened.as_str()).bind(REOPENED_BY).bind(REOPENED_NOTE);
    note.execute(tx.connection()).await.map(drop)
}

/// Answers the number of what was written, if something was.
async fn write(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letter: &NewLetter<'_>,
) -> Result<Option<i64>> {
    let (event, cause) = (letter.event, letter.cause);
    let headers = write_headers(&event.headers).map_err(|error| unwritable(DOING, error))?;
    let written: Option<(i64,)> = sqlx::query_as(store.sql.write_letter.clone())
        .bind(held.number)
        .bind(letter.scope)
        .bind(&*event.topic)
        .bind(event.partition)
        .bind(event.offset)
        .bind(letter.digest)
        .bind(letter.key.map(|key| key.as_str()))
        .bind(letter.state.as_str())
        .bind(event.timestamp)
        .bind(event.leader_epoch)
        .bind(event.message_key.as_deref())
        .bind(headers)
        .bind(event.payload.as_deref())
        .bind(cause.map(|it| it.class.as_str()))
        .bind(cause.map(|it| it.permanent))
        .bind(cause.map(|it| it.error.as_str()))
        .bind(cause.map_or(0, |it| it.attempts))
        .bind(cause.map(|it| time::to_millis(it.first_failed_at)))
        .bind(cause.map(|it| it.fingerprint(letter.scope)))
        .bind(letter.had_a_new_key())
        .fetch_optional(tx.connection())
        .await
        .map_err(|error| failed(DOING, error))?;
    Ok(written.map(|(id,)| id))
}

/// What a letter that was written now means to its message key. `waited` is the lane in which it
/// waited until now.
async fn park(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letter: &NewLetter<'_>,
    waited: Option<i64>,
) -> Result<()> {
    // One that waits or is parked has a message key, or its row would have been refused.
    let Some(message_key) = letter.event.message_key.as_deref() else { return Ok(()) };
    let place = Place { lane: held.number, scope: letter.scope, message_key };
    let parked = async {
        match letter.state {
            LetterState::Waiting => parking::wait(store, tx, place).await?,
            LetterState::Parked => parking::open(store, tx, place).await?,
            _ => {}
        }
        if let Some(lane) = waited {
            parking::leave(store, tx, Place { lane, ..place }, 1).await?;
            parking::forget(store, tx, lane).await?;
        }
        Ok(())
    };
    parked.await.map_err(|error| failed(DOING, error))
}
