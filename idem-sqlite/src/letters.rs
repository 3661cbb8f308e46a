//! Dead letters, read for people and for what sends them on.

use idem_runtime::{DeadLetter, LetterAction, LetterFilter, LetterNote, Result};
use sqlx::{QueryBuilder, Sqlite};

use crate::error::{failed, unwritable};
use crate::letter_row::{self, Selected, select_letters, word};
use crate::statements::now;
use crate::tx::Tx;
use crate::{Inner, hex, time};

/// What a filter asks for follows.
pub(crate) const LETTERS: &str = select_letters!("{schema}dead_letters letter where true");

pub(crate) const HISTORY: &str = "
select at, action, by_whom, note
from {schema}dead_letter_notes
where dead_letter_id = ?1
order by note_id
";

pub(crate) const UNFORWARDED: &str = select_letters!(
    "{schema}dead_letters letter
     where state in ('dead', 'parked') and forwarded_at is null
        and lane_id in (select value from json_each(?1))
     order by dead_letter_id
     limit ?2"
);

pub(crate) const FORWARDED: &str = concat!(
    "update {schema}dead_letters set forwarded_at = ",
    now!(),
    " where forwarded_at is null and dead_letter_id in (select value from json_each(?1))"
);

pub(crate) async fn letters(store: &Inner, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
    const DOING: &str = "reading dead letters";
    let mut query = select(store, filter).map_err(|error| unwritable(DOING, error))?;
    let rows: Vec<Selected> = query
        .build_query_as()
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    Ok(letter_row::letters(rows))
}

/// Only what is asked for is in the text, so that an index can serve it.
fn select(store: &Inner, filter: &LetterFilter) -> serde_json::Result<QueryBuilder<Sqlite>> {
    let mut query = QueryBuilder::new(store.sql.letters.as_str());
    if let Some(ids) = &filter.ids {
        query.push(" and dead_letter_id in (select value from json_each(");
        query.push_bind(serde_json::to_string(ids)?).push("))");
    }
    let class = filter.class.map(|it| it.as_str());
    for (test, text) in [
        (" and scope = ", filter.scope.as_deref()),
        (" and event_key = ", filter.key.as_deref()),
        (" and topic = ", filter.topic.as_deref()),
        (" and state = ", filter.state.map(|it| it.as_str())),
        (" and failure_class = ", class),
        (" and fingerprint = ", filter.fingerprint.as_deref()),
    ] {
        if let Some(text) = text {
            query.push(test).push_bind(text.to_owned());
        }
    }
    if let Some((name, value)) = &filter.header {
        query.push(" and (select value ->> 1 from json_each(");
        query.push("case when are_headers_edited then edited_headers else letter.headers end)");
        query.push(" where value ->> 0 = ");
        query.push_bind(name.clone()).push(" order by key desc limit 1) = ");
        query.push_bind(hex::encode(value));
    }
    for (test, number) in [
        (" and written_at >= ", filter.since.map(time::to_millis_up)),
        (" and written_at < ", filter.until.map(time::to_millis_up)),
        (" and dead_letter_id > ", filter.after),
    ] {
        if let Some(number) = number {
            query.push(test).push_bind(number);
        }
    }
    query.push(" order by dead_letter_id");
    if let Some(limit) = filter.limit {
        query.push(" limit ").push_bind(limit);
    }
    Ok(query)
}

pub(crate) async fn history(store: &Inner, id: i64) -> Result<Vec<LetterNote>> {
    const DOING: &str = "reading what was done with a dead letter";
    let rows: Vec<(i64, String, String, Option<String>)> =
        sqlx::query_as(store.sql.letter_history.clone())
            .bind(id)
            .fetch_all(&store.readers)
            .await
            .map_err(|error| failed(DOING, error))?;
    rows.into_iter()
        .map(|(at, action, by, note)| {
            let action = word("action", LetterAction::parse, &action)?;
            Ok(LetterNote::new(time::from_millis(at), action, by, note))
        })
        .collect::<sqlx::Result<_>>()
        .map_err(|error| failed(DOING, error))
}

pub(crate) async fn unforwarded(
    store: &Inner,
    lanes: &[i64],
    limit: u32,
) -> Result<Vec<DeadLetter>> {
    const DOING: &str = "reading dead letters to forward";
    let lanes = serde_json::to_string(lanes).map_err(|error| unwritable(DOING, error))?;
    let rows: Vec<Selected> = sqlx::query_as(store.sql.unforwarded_letters.clone())
        .bind(lanes)
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(|error| failed(DOING, error))?;
    Ok(letter_row::letters(rows))
}

pub(crate) async fn forwarded(store: &Inner, ids: &[i64]) -> Result<()> {
    const DOING: &str = "noting that dead letters were forwarded";
    let ids = serde_json::to_string(ids).map_err(|error| unwritable(DOING, error))?;
    let mut tx = Tx::begin(&store.writers).await?;
    let noted = sqlx::query(store.sql.letters_forwarded.clone()).bind(ids);
    let noted = noted.execute(tx.connection()).await.map(drop);
    tx.end(noted, DOING).await
}
