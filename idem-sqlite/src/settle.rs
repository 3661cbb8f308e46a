//! What people do with a dead letter, and what follows from that.

use idem_runtime::store::{Edit, Settlement};
use idem_runtime::{DeadLetter, Error, ErrorKind, LetterAction, LetterState, Result};

use crate::Inner;
use crate::error::{failed, unwritable};
use crate::letter_row::{Selected, letter, select_letters, write_headers};
use crate::parking::{self, Place};
use crate::statements::now;
use crate::tx::Tx;

const DOING: &str = "settling a dead letter";

pub(crate) const ONE: &str =
    select_letters!("{schema}dead_letters letter where dead_letter_id = ?1");

pub(crate) const BEFORE: &str =
    "select lane_id, scope, message_key, state from {schema}dead_letters where dead_letter_id = ?1";

pub(crate) const SETTLE: &str = concat!(
    "update {schema}dead_letters set state = ?2, settled_at = ",
    now!(),
    " where dead_letter_id = ?1"
);

/// `?2`, `?4` and `?6` say whether there is a new payload, other headers, another message key; what
/// follows each, which.
pub(crate) const EDIT: &str = "
update {schema}dead_letters
set is_edited = is_edited or ?2,
    edited_payload = case when ?2 then ?3 else edited_payload end,
    are_headers_edited = are_headers_edited or ?4,
    edited_headers = case when ?4 then ?5 else edited_headers end,
    is_message_key_edited = is_message_key_edited or ?6,
    edited_message_key = case when ?6 then ?7 else edited_message_key end
where dead_letter_id = ?1
";

pub(crate) const NOTE: &str = "
insert into {schema}dead_letter_notes (dead_letter_id, action, by_whom, note)
values (?1, ?2, ?3, ?4)
";

/// The transaction is the only one that writes, which is the lock.
pub(crate) async fn lock(store: &Inner, tx: &mut Tx, id: i64) -> Result<Option<DeadLetter>> {
    let row: Option<Selected> = sqlx::query_as(store.sql.one_letter.clone())
        .bind(id)
        .fetch_optional(tx.connection())
        .await
        .map_err(|error| failed("locking a dead letter", error))?;
    Ok(letter(row))
}

pub(crate) async fn settle(
    store: &Inner,
    tx: &mut Tx,
    id: i64,
    settlement: &Settlement<'_>,
) -> Result<()> {
    let before: Option<(i64, String, Option<Vec<u8>>, String)> =
        sqlx::query_as(store.sql.letter_before.clone())
            .bind(id)
            .fetch_optional(tx.connection())
            .await
            .map_err(|error| failed(DOING, error))?;
    let Some((lane, scope, message_key, state)) = before else {
        return Err(Error::new(ErrorKind::Store, format!("{DOING}: there is none numbered {id}")));
    };
    let headers = settlement.edit.and_then(|edit| edit.headers);
    let written = headers.map(write_headers).transpose();
    let written = written.map_err(|error| unwritable(DOING, error))?.flatten();
    let settled = async {
        if let Some(to) = settled(settlement.action) {
            let settle = sqlx::query(store.sql.settle_letter.clone()).bind(id).bind(to.as_str());
            settle.execute(tx.connection()).await?;
            if let Some(message_key) = &message_key {
                let place = Place { lane, scope: &scope, message_key };
                unpark(store, tx, place, LetterState::parse(&state)).await?;
            }
        }
        if let (LetterAction::Edited, Some(edit)) = (settlement.action, settlement.edit) {
            let Edit { payload, headers, message_key } = edit;
            let edit = sqlx::query(store.sql.edit_letter.clone())
                .bind(id)
                .bind(payload.is_some())
                .bind(payload.flatten())
                .bind(headers.is_some())
                .bind(written)
                .bind(message_key.is_some())
                .bind(message_key.flatten());
            edit.execute(tx.connection()).await?;
        }
        let note = sqlx::query(store.sql.note_on_letter.clone()).bind(id);
        let note = note.bind(settlement.action.as_str()).bind(settlement.by).bind(settlement.note);
        note.execute(tx.connection()).await.map(drop)
    };
    settled.await.map_err(|error| failed(DOING, error))
}

/// The state that a letter is in after that, when it is another one.
fn settled(action: LetterAction) -> Option<LetterState> {
    match action {
        LetterAction::Replayed | LetterAction::Superseded => Some(LetterState::Replayed),
        LetterAction::Dropped => Some(LetterState::Dropped),
        _ => None,
    }
}

/// What a letter that was in this state has meant to its message key.
async fn unpark(
    store: &Inner,
    tx: &mut Tx,
    place: Place<'_>,
    was: Option<LetterState>,
) -> sqlx::Result<()> {
    match was {
        Some(LetterState::Parked) => parking::release(store, tx, place).await?,
        Some(LetterState::Waiting) => parking::leave(store, tx, place, 1).await?,
        _ => return Ok(()),
    }
    parking::forget(store, tx, place.lane).await
}
