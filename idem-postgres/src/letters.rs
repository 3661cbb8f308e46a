//! Reading dead letters.

use std::sync::Arc;

use idem_runtime::{
    Cause, DeadLetter, Error, ErrorKind, Event, FailureClass, Key, LetterAction, LetterFilter,
    LetterNote, LetterState, Result,
};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres, Row};

use crate::Inner;
use crate::error::failed;
use crate::times::{from_micros, to_micros};
use crate::tx::Session;

/// Letters as [`Letter`] reads them.
macro_rules! select_letters {
    ($which:literal) => {
        concat!(
            "select dead_letter_id, letter.scope, letter.event_key, letter.state, letter.group_name,
                letter.topic, letter.partition, letter.source_offset, letter.leader_epoch,
                letter.event_timestamp, letter.digest,
                case when letter.is_message_key_edited then letter.edited_message_key
                     else letter.message_key end as message_key,
                case when letter.is_edited then letter.edited_payload else letter.payload end
                    as payload,
                case when letter.are_headers_edited then letter.edited_header_names
                     else letter.header_names end as header_names,
                case when letter.are_headers_edited then letter.edited_header_values
                     else letter.header_values end as header_values,
                letter.is_edited or letter.are_headers_edited or letter.is_message_key_edited
                    as is_edited,
                letter.failure_class,
                letter.is_permanent, letter.error, letter.attempts, letter.fingerprint,
                (extract(epoch from letter.first_failed_at) * 1000000)::bigint as first_failed_us,
                (extract(epoch from letter.written_at) * 1000000)::bigint as written_us
             from {schema}.dead_letters letter ",
            $which
        )
    };
}
pub(crate) use select_letters;

/// What is null is not asked for.
pub(crate) const FIND: &str = select_letters!(
    "where ($1::bigint[] is null or dead_letter_id = any($1))
       and ($2::text is null or letter.scope = $2)
       and ($3::text is null or letter.topic = $3)
       and ($4::text is null or letter.state = $4)
       and ($5::text is null or letter.failure_class = $5)
       and ($6::text is null or letter.fingerprint = $6)
       and ($7::bigint is null
            or letter.written_at >= timestamptz 'epoch' + $7 * interval '1 microsecond')
       and ($8::bigint is null
            or letter.written_at < timestamptz 'epoch' + $8 * interval '1 microsecond')
       and ($9::bigint is null or dead_letter_id > $9)
       and ($11::text is null or letter.event_key = $11)
       and ($12::text is null or $13::bytea = (
            select header.value
            from unnest(
                case when letter.are_headers_edited then letter.edited_header_names
                     else letter.header_names end,
                case when letter.are_headers_edited then letter.edited_header_values
                     else letter.header_values end
            )
                with ordinality as header (name, value, place)
            where header.name = $12
            order by header.place desc
            limit 1
       ))
     order by dead_letter_id
     limit $10"
);

pub(crate) const UNFORWARDED: &str = select_letters!(
    "where letter.lane_id = any($1::bigint[])
       and letter.state in ('dead', 'parked')
       and letter.forwarded_at is null
     order by dead_letter_id
     limit $2"
);

/// In order, because two processes may forward the same letters.
pub(crate) const FORWARDED: &str = "
update {schema}.dead_letters
set forwarded_at = now()
where dead_letter_id in (
    select dead_letter_id from {schema}.dead_letters
    where dead_letter_id = any($1::bigint[]) and forwarded_at is null
    order by dead_letter_id
    for update
)
";

pub(crate) const HISTORY: &str = "
select (extract(epoch from at) * 1000000)::bigint, action, by_whom, note
from {schema}.dead_letter_notes
where dead_letter_id = $1
order by note_id
";

/// A row as the statements above select it.
pub(crate) struct Letter(pub(crate) DeadLetter);

impl<'r> FromRow<'r, PgRow> for Letter {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let scope: String = row.try_get("scope")?;
        let state: &str = row.try_get("state")?;
        let state = LetterState::parse(state).ok_or_else(|| unknown("state", state))?;
        let key: Option<&str> = row.try_get("event_key")?;
        let key =
            key.map(Key::written).transpose().map_err(|error| sqlx::Error::Decode(error.into()))?;
        let (group, id) = (row.try_get("group_name")?, row.try_get("dead_letter_id")?);
        let mut letter = DeadLetter::new(id, scope, state, group, event(row)?);
        letter.key = key;
        letter.digest = row.try_get("digest")?;
        letter.edited = row.try_get("is_edited")?;
        letter.cause = cause(row)?;
        letter.fingerprint = row.try_get::<Option<_>, _>("fingerprint")?.unwrap_or_default();
        letter.written_at = from_micros(row.try_get("written_us")?);
        Ok(Self(letter))
    }
}

fn event(row: &PgRow) -> sqlx::Result<Event> {
    let topic: Arc<str> = Arc::from(row.try_get::<&str, _>("topic")?);
    let (partition, offset) = (row.try_get("partition")?, row.try_get("source_offset")?);
    let mut event = Event::new(topic, partition, offset, "");
    event.leader_epoch = row.try_get("leader_epoch")?;
    event.timestamp = row.try_get("event_timestamp")?;
    event.message_key = row.try_get::<Option<Vec<u8>>, _>("message_key")?.map(Into::into);
    event.payload = row.try_get::<Option<Vec<u8>>, _>("payload")?.map(Into::into);
    let names: Option<Vec<String>> = row.try_get("header_names")?;
    let values: Option<Vec<Option<Vec<u8>>>> = row.try_get("header_values")?;
    event.headers = names.into_iter().flatten().zip(values.into_iter().flatten()).collect();
    Ok(event)
}

fn cause(row: &PgRow) -> sqlx::Result<Option<Cause>> {
    let Some(class) = row.try_get::<Option<&str>, _>("failure_class")? else { return Ok(None) };
    let attempts: i32 = row.try_get("attempts")?;
    let first_failed: Option<i64> = row.try_get("first_failed_us")?;
    Ok(Some(Cause {
        class: FailureClass::parse(class).ok_or_else(|| unknown("class", class))?,
        permanent: row.try_get::<Option<_>, _>("is_permanent")?.unwrap_or_default(),
        error: row.try_get::<Option<_>, _>("error")?.unwrap_or_default(),
        attempts: attempts.unsigned_abs(),
        first_failed_at: from_micros(first_failed.unwrap_or_default()),
    }))
}

fn unknown(what: &str, word: &str) -> sqlx::Error {
    let message = format!(
        "the {what} of a dead letter is `{word}`, which this release of idem does not know: \
         upgrade the program"
    );
    sqlx::Error::Decode(message.into())
}

/// Letters that a lane waits for.
pub(crate) async fn letters_of(
    store: &Inner,
    doing: &str,
    select: QueryAs<'_, Postgres, Letter, PgArguments>,
) -> Result<Vec<DeadLetter>> {
    select_in(store.pools.read().await?, doing, select).await
}

async fn letters_aside(
    store: &Inner,
    doing: &str,
    select: QueryAs<'_, Postgres, Letter, PgArguments>,
) -> Result<Vec<DeadLetter>> {
    select_in(store.pools.read_aside().await?, doing, select).await
}

async fn select_in(
    mut session: Session,
    doing: &str,
    select: QueryAs<'_, Postgres, Letter, PgArguments>,
) -> Result<Vec<DeadLetter>> {
    let letters = session.all(select).await.map_err(|error| failed(doing, error))?;
    session.finish(doing).await?;
    Ok(letters.into_iter().map(|letter| letter.0).collect())
}

/// A lane asks for those of one key, from within a batch, which an index finds. Whatever else is asked for
/// may read the table.
pub(crate) async fn find(store: &Inner, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
    const DOING: &str = "reading dead letters";
    let find = sqlx::query_as(store.sql.find_letters.clone())
        .bind(filter.ids.as_deref())
        .bind(filter.scope.as_deref())
        .bind(filter.topic.as_deref())
        .bind(filter.state.map(LetterState::as_str))
        .bind(filter.class.map(FailureClass::as_str))
        .bind(filter.fingerprint.as_deref())
        .bind(filter.since.map(to_micros))
        .bind(filter.until.map(to_micros))
        .bind(filter.after)
        .bind(filter.limit.map(i64::from))
        .bind(filter.key.as_deref())
        .bind(filter.header.as_ref().map(|(name, _)| name.as_str()))
        .bind(filter.header.as_ref().map(|(_, value)| value.as_slice()));
    if filter.scope.is_some() && filter.key.is_some() {
        return letters_of(store, DOING, find).await;
    }
    letters_aside(store, DOING, find).await
}

pub(crate) async fn unforwarded(
    store: &Inner,
    lanes: &[i64],
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    let unforwarded =
        sqlx::query_as(store.sql.unforwarded_letters.clone()).bind(lanes).bind(i64::from(limit));
    letters_aside(store, "reading dead letters to forward", unforwarded).await
}

pub(crate) async fn forwarded(store: &Inner, ids: &[i64]) -> Result<()> {
    const DOING: &str = "noting forwarded dead letters";
    let mut session = store.pools.write_aside().await?;
    let forwarded = sqlx::query(store.sql.forwarded_letters.clone()).bind(ids);
    session.execute(forwarded).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await
}

pub(crate) async fn history(store: &Inner, id: i64) -> Result<Vec<LetterNote>> {
    const DOING: &str = "reading what was done with a dead letter";
    type Note = (i64, String, String, Option<String>);
    let mut session = store.pools.read_aside().await?;
    let notes = sqlx::query_as::<_, Note>(store.sql.letter_history.clone()).bind(id);
    let notes = session.all(notes).await.map_err(|error| failed(DOING, error))?;
    session.finish(DOING).await?;
    let note = |(at, action, by, note): Note| match LetterAction::parse(&action) {
        Some(action) => Ok(LetterNote::new(from_micros(at), action, by, note)),
        None => Err(Error::new(
            ErrorKind::Store,
            format!("{DOING}: `{action}`, which this release of idem does not know"),
        )),
    };
    notes.into_iter().map(note).collect()
}
