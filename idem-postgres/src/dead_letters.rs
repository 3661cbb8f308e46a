//! Writing dead letters, and what waits behind them, in the transaction of their lane.

use std::borrow::Cow;
use std::collections::BTreeMap;

use idem_runtime::lane::Held;
use idem_runtime::{
    Error, ErrorKind, Event, LetterAction, LetterState, NewLetter, REOPENED_BY, REOPENED_NOTE,
    Result,
};

use crate::attempts::number;
use crate::error::failed;
use crate::parking::{Change, ParkedKey, change, parked};
use crate::times::to_micros;
use crate::{Inner, Tx};

const DOING: &str = "writing dead letters";

/// How many bytes of events go into one statement, roughly. An array of the server ends at 1 GiB.
const CHUNK: usize = 16 << 20;

/// For each letter that was written: its place, and the lane in which it waited, if it takes over one
/// that did. What is not among them was there already. One that is settled, and whose key was forgotten
/// since, is opened again.
///
/// A letter that takes over is another thing than one that is inserted, because the line of its key
/// is one shorter then; hence no `on conflict do update`, which does not tell the two apart. It keeps its
/// key: that is its event's, as it came, whatever was made of it before it was worked.
pub(crate) const GIVE_UP: &str = "
with lane as materialized (
    select lane_id, group_name, topic_id from {schema}.lanes where lane_id = $1
), headers as (
    select header.letter, array_agg(header.name order by header.place) as names,
           array_agg(header.value order by header.place) as values
    from unnest($18::bigint[], $19::text[], $20::bytea[])
        with ordinality as header (letter, name, value, place)
    group by header.letter
), letters as materialized (
    select it.place, lane.lane_id, lane.group_name, lane.topic_id, it.scope collate \"C\" as scope,
           it.event_key, it.state, it.topic collate \"C\" as topic, it.partition, it.source_offset,
           it.digest, it.event_timestamp, it.leader_epoch, it.message_key, it.payload,
           it.failure_class, it.is_permanent, it.error, it.attempts, it.fingerprint,
           timestamptz 'epoch' + it.first_failed_us * interval '1 microsecond' as first_failed_at,
           headers.names, headers.values, it.had_a_new_key
    from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::int[], $11::bytea[], $12::bytea[], $13::text[],
                $14::boolean[], $15::text[], $16::int[], $17::bigint[], $21::text[], $22::boolean[])
        with ordinality as it (scope, event_key, state, topic, partition, source_offset, digest,
                               event_timestamp, leader_epoch, message_key, payload, failure_class,
                               is_permanent, error, attempts, first_failed_us, fingerprint,
                               had_a_new_key, place)
    cross join lane
    left join headers on headers.letter = it.place
), waited as materialized (
    select letters.place, letter.dead_letter_id, letter.lane_id
    from letters
    join {schema}.dead_letters letter
      on letter.scope = letters.scope
     and letter.topic = letters.topic
     and coalesce(letter.topic_id, '') = coalesce(letters.topic_id, '')
     and letter.partition = letters.partition
     and letter.source_offset = letters.source_offset
     and letter.digest = letters.digest
     and letter.state = 'waiting'
    where letters.state <> 'waiting'
), taken_over as (
    update {schema}.dead_letters letter
    set state = letters.state, failure_class = letters.failure_class,
        is_permanent = letters.is_permanent, error = letters.error, attempts = letters.attempts,
        first_failed_at = letters.first_failed_at, fingerprint = letters.fingerprint,
        lane_id = letters.lane_id, group_name = letters.group_name
    from letters
    join waited using (place)
    where letter.dead_letter_id = waited.dead_letter_id and letter.state = 'waiting'
    returning place, waited.lane_id
), reopened as (
    update {schema}.dead_letters settled
    set state = letters.state, failure_class = letters.failure_class,
        is_permanent = letters.is_permanent, error = letters.error, attempts = letters.attempts,
        first_failed_at = letters.first_failed_at, fingerprint = letters.fingerprint,
        event_key = letters.event_key, lane_id = letters.lane_id, group_name = letters.group_name,
        settled_at = null, forwarded_at = null, is_message_key_edited = false,
        edited_message_key = null
    from letters
    where settled.scope = letters.scope
      and settled.topic = letters.topic
      and coalesce(settled.topic_id, '') = coalesce(letters.topic_id, '')
      and settled.partition = letters.partition
      and settled.source_offset = letters.source_offset
      and settled.digest = letters.digest
      and settled.state in ('replayed', 'dropped')
      and letters.had_a_new_key
    returning letters.place, settled.dead_letter_id
), noted as (
    insert into {schema}.dead_letter_notes (dead_letter_id, action, by_whom, note)
    select dead_letter_id, $23, $24, $25 from reopened
), written as (
    insert into {schema}.dead_letters
        (lane_id, group_name, topic_id, scope, event_key, state, topic, partition, source_offset,
         digest, event_timestamp, leader_epoch, message_key, payload, header_names, header_values,
         failure_class, is_permanent, error, attempts, first_failed_at, fingerprint)
    select lane_id, group_name, topic_id, scope, event_key, state, topic, partition, source_offset,
           digest, event_timestamp, leader_epoch, message_key, payload, names, values,
           failure_class, is_permanent, error, attempts, first_failed_at, fingerprint
    from letters
    where place not in (select place from taken_over union all select place from reopened)
    order by place
    on conflict (scope, topic, coalesce(topic_id, ''), partition, source_offset, digest) do nothing
    returning scope, topic, partition, source_offset, digest
)
select place, lane_id from taken_over
union all
select place, null from reopened
union all
select place, null from letters join written using (scope, topic, partition, source_offset, digest)
";

pub(crate) async fn give_up(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letters: &[NewLetter<'_>],
) -> Result<()> {
    letters.iter().try_for_each(check)?;
    // Before the letters, as everybody does who locks both.
    let mut keys: Vec<_> = letters.iter().filter_map(parked_key).collect();
    keys.sort_unstable();
    keys.dedup();
    parked(store, tx, held, &keys).await?;

    // By their lanes: where a scope changed its group, what waited in another lane is given up on here.
    // That lane's row is locked after the letter then, out of order; a deadlock over it passes.
    let mut changes = BTreeMap::<i64, BTreeMap<ParkedKey<'_>, Change>>::new();
    let mut rest = letters;
    while !rest.is_empty() {
        let (chunk, next) = rest.split_at(chunk_len(rest));
        rest = next;
        for (place, waited_in) in write(store, tx, held, chunk).await? {
            let place = usize::try_from(place - 1).ok();
            let Some(letter) = place.and_then(|place| chunk.get(place)) else { continue };
            let Some(key) = parked_key(letter) else { continue };
            let mut line = |lane: i64, waiting: i32, parks: bool| {
                let change = changes.entry(lane).or_default().entry(key).or_default();
                change.waiting += waiting;
                change.parks |= parks;
            };
            match letter.state {
                LetterState::Waiting => line(held.number, 1, false),
                LetterState::Parked => line(held.number, 0, true),
                _ => {}
            }
            if let Some(lane) = waited_in {
                line(lane, -1, false);
            }
        }
    }
    for (lane, changes) in &changes {
        change(store, tx, *lane, changes).await.map_err(|error| failed(DOING, error))?;
    }
    Ok(())
}

fn check(letter: &NewLetter<'_>) -> Result<()> {
    let wrong = |what: String| Err(Error::new(ErrorKind::Store, format!("{DOING}: {what}")));
    match letter.state {
        LetterState::Parked | LetterState::Waiting if letter.event.message_key.is_none() => {
            wrong("an event without a message key has nobody to wait for".to_owned())
        }
        LetterState::Dead | LetterState::Parked | LetterState::Waiting => Ok(()),
        state => wrong(format!("a new one is not `{}`", state.as_str())),
    }
}

fn parked_key<'a>(letter: &NewLetter<'a>) -> Option<ParkedKey<'a>> {
    Some((letter.scope, letter.event.message_key.as_deref()?))
}

/// How many letters go into the next statement: at least one.
fn chunk_len(letters: &[NewLetter<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |letter: &&NewLetter<'_>| {
        let Event { message_key, payload, headers, .. } = letter.event;
        bytes += message_key.as_ref().map_or(0, |it| it.len());
        bytes += payload.as_ref().map_or(0, |it| it.len());
        bytes += headers.iter().map(|(_, value)| value.map_or(0, <[u8]>::len)).sum::<usize>();
        bytes <= CHUNK
    };
    letters.iter().take_while(fits).count().max(1)
}

async fn write(
    store: &Inner,
    tx: &mut Tx,
    held: &Held,
    letters: &[NewLetter<'_>],
) -> Result<Vec<(i64, Option<i64>)>> {
    fn of<'a, T>(letters: &[NewLetter<'a>], get: impl Fn(&NewLetter<'a>) -> T) -> Vec<T> {
        letters.iter().map(get).collect()
    }
    let headers = letters.iter().zip(1_i64..).flat_map(|(letter, place)| {
        letter.event.headers.iter().map(move |(name, value)| (place, name, value))
    });
    let (mut header_of, mut header_names, mut header_values) = (vec![], vec![], vec![]);
    for (place, name, value) in headers {
        header_of.push(place);
        header_names.push(text(name));
        header_values.push(value);
    }
    let write = sqlx::query_as::<_, (i64, Option<i64>)>(store.sql_in(tx).give_up.clone())
        .bind(held.number)
        .bind(of(letters, |it| it.scope))
        .bind(of(letters, |it| it.key.map(|key| key.as_str())))
        .bind(of(letters, |it| it.state.as_str()))
        .bind(of(letters, |it| it.event.topic.to_string()))
        .bind(of(letters, |it| it.event.partition))
        .bind(of(letters, |it| it.event.offset))
        .bind(of(letters, |it| it.digest))
        .bind(of(letters, |it| it.event.timestamp))
        .bind(of(letters, |it| it.event.leader_epoch))
        .bind(of(letters, |it| it.event.message_key.as_deref()))
        .bind(of(letters, |it| it.event.payload.as_deref()))
        .bind(of(letters, |it| it.cause.map(|cause| cause.class.as_str())))
        .bind(of(letters, |it| it.cause.map(|cause| cause.permanent)))
        .bind(of(letters, |it| it.cause.map(|cause| text(&cause.error))))
        .bind(of(letters, |it| it.cause.map_or(0, |cause| number(cause.attempts))))
        .bind(of(letters, |it| it.cause.map(|cause| to_micros(cause.first_failed_at))))
        .bind(header_of)
        .bind(header_names)
        .bind(header_values)
        .bind(of(letters, |it| it.cause.map(|cause| cause.fingerprint(it.scope))))
        .bind(of(letters, |it| it.had_a_new_key()))
        .bind(LetterAction::Reopened.as_str())
        .bind(REOPENED_BY)
        .bind(REOPENED_NOTE);
    tx.session().all(write).await.map_err(|error| failed(DOING, error))
}

/// Without the one character that no text of the database has.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\\0").into() } else { text.into() }
}
