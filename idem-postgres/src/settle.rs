//! What people do with dead letters, each within a transaction.

use idem_runtime::store::{Edit, Settlement};
use idem_runtime::{DeadLetter, Error, ErrorKind, LetterAction, LetterState, Result};

use crate::dead_letters::text;
use crate::error::failed;
use crate::letters::{Letter, select_letters};
use crate::{Inner, Tx};

/// The key before its letter: the order of everybody who locks both.
pub(crate) const LOCK_KEY: &str = "
select from {schema}.parked_keys key
join {schema}.dead_letters letter
  on letter.lane_id = key.lane_id
 and letter.scope = key.scope
 and sha256(letter.message_key) = key.key_digest
where letter.dead_letter_id = $1 and letter.state in ('parked', 'waiting')
for update of key
";

pub(crate) const LOCK: &str = select_letters!("where dead_letter_id = $1 for update of letter");

/// `$2`: the new state, if there is one. `$3`, `$4`: whether there is a new payload, and which. `$8` to
/// `$10`: whether there are other headers, and which; `$11`, `$12`: the same of the message key.
///
/// The head of a line lets go of it; a line that is released and has nobody in it is forgotten.
///
/// It guards its transaction as a claim does: the replay of an event in offset mode has none, and
/// its handler is lent the transaction all the same.
pub(crate) const SETTLE: &str = "
with former as materialized (
    select dead_letter_id, lane_id, scope, sha256(message_key) as key_digest, state
    from {schema}.dead_letters
    where dead_letter_id = $1
), settled as (
    update {schema}.dead_letters letter
    set state = coalesce($2::text, letter.state),
        settled_at = case when $2 is null then letter.settled_at else now() end,
        is_edited = letter.is_edited or $3,
        edited_payload = case when $3 then $4::bytea else letter.edited_payload end,
        are_headers_edited = letter.are_headers_edited or $8,
        edited_header_names = case when $8 then $9::text[] else letter.edited_header_names end,
        edited_header_values = case when $8 then $10::bytea[] else letter.edited_header_values end,
        is_message_key_edited = letter.is_message_key_edited or $11,
        edited_message_key = case when $11 then $12::bytea else letter.edited_message_key end
    from former
    where letter.dead_letter_id = former.dead_letter_id and ($2 is not null or $3 or $8 or $11)
), line as materialized (
    select key.lane_id, key.scope, key.key_digest,
           greatest(key.waiting - (former.state = 'waiting')::int, 0) as waiting,
           key.is_released or former.state = 'parked' as is_released
    from {schema}.parked_keys key
    join former using (lane_id, scope, key_digest)
    where $2 is not null and former.state in ('parked', 'waiting')
), emptied as (
    delete from {schema}.parked_keys key
    using line
    where key.lane_id = line.lane_id
      and key.scope = line.scope
      and key.key_digest = line.key_digest
      and line.is_released
      and line.waiting = 0
), moved as (
    update {schema}.parked_keys key
    set waiting = line.waiting, is_released = line.is_released
    from line
    where key.lane_id = line.lane_id
      and key.scope = line.scope
      and key.key_digest = line.key_digest
      and not (line.is_released and line.waiting = 0)
), noted as (
    insert into {schema}.dead_letter_notes (dead_letter_id, action, by_whom, note)
    select dead_letter_id, $5, $6, $7 from former
), guarded as (
    insert into {schema}.open_batches (batch)
    select pg_current_xact_id() from former
    returning batch, ctid
)
select batch::text, ctid::text from guarded
";

pub(crate) async fn lock(store: &Inner, tx: &mut Tx, id: i64) -> Result<Option<DeadLetter>> {
    let failed = |error| failed("locking a dead letter", error);
    let key = sqlx::query(store.sql_in(tx).lock_letters_key.clone()).bind(id);
    tx.session().execute(key).await.map_err(failed)?;
    // A later statement, which sees what was waited for.
    let letter = sqlx::query_as::<_, Letter>(store.sql_in(tx).lock_letter.clone()).bind(id);
    let letter = tx.session().optional(letter).await.map_err(failed)?;
    Ok(letter.map(|letter| letter.0))
}

pub(crate) async fn settle(
    store: &Inner,
    tx: &mut Tx,
    id: i64,
    settlement: &Settlement<'_>,
) -> Result<()> {
    const DOING: &str = "settling a dead letter";
    let state = match settlement.action {
        LetterAction::Replayed | LetterAction::Superseded => Some(LetterState::Replayed),
        LetterAction::Dropped => Some(LetterState::Dropped),
        _ => None,
    };
    let edit = settlement.edit.filter(|_| settlement.action == LetterAction::Edited);
    let Edit { payload, headers, message_key } = edit.unwrap_or_default();
    let names = headers.map(|it| it.iter().map(|(name, _)| text(name)).collect::<Vec<_>>());
    let values = headers.map(|it| it.iter().map(|(_, value)| value).collect::<Vec<_>>());
    let settle = sqlx::query_as::<_, (String, String)>(store.sql_in(tx).settle_letter.clone())
        .bind(id)
        .bind(state.map(LetterState::as_str))
        .bind(payload.is_some())
        .bind(payload.flatten())
        .bind(settlement.action.as_str())
        .bind(settlement.by)
        .bind(settlement.note)
        .bind(headers.is_some())
        .bind(names.filter(|it| !it.is_empty()))
        .bind(values.filter(|it| !it.is_empty()))
        .bind(message_key.is_some())
        .bind(message_key.flatten());
    let settled = tx.session().optional(settle).await.map_err(|error| failed(DOING, error))?;
    let Some((xid, guard)) = settled else {
        return Err(Error::new(ErrorKind::Store, format!("{DOING}: there is no letter {id}")));
    };
    tx.guard(xid, guard);
    Ok(())
}
