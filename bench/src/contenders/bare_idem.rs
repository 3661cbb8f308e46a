//! A limit of idem: the very statements of its PostgreSQL store, with the effects set-based, and
//! neither Kafka nor its pipeline around them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use idem::postgres::Postgres;
use idem::{Key, Store};
use idem_runtime::Lends;
use idem_runtime::lane::{Held, LaneId, LogIdentity, Owner, Position};
use idem_runtime::packed::{Digest, DigestKey, NewPack, Pack};
use idem_runtime::store::PackedMarkers as _;
use idem_runtime::store::{Claim, Claimed, Opening, Seal, Sealed, Terms, Writer};
use uuid::Uuid;

use super::by_idem::{SCOPE, store};
use super::hand_batch::insert;
use super::{Result, until_finished};
use crate::data::{self, Order, PARTITIONS};
use crate::gauge::Gauge;
use crate::task::Task;

/// The most events in a transaction, as idem has it by default.
const BATCH: usize = 1000;

/// Who knows which orders are new.
#[derive(Clone)]
enum Known {
    /// The table of markers.
    Rows,
    /// A set of digests, in place of the window. Each batch adds a row with its own.
    Packed(DigestKey, HashSet<Digest>),
    /// The lane's position.
    Offset,
}

/// A marker for each event.
pub(crate) async fn rows(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let store = store(&task).await?;
    run(task, gauge, store, Known::Rows).await
}

/// A digest for each event.
pub(crate) async fn packed(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let store = store(&task).await?;
    let known = Known::Packed(store.digest_key().await?, HashSet::new());
    run(task, gauge, store, known).await
}

/// The position is the marker.
pub(crate) async fn offset(task: Task, gauge: Arc<Gauge>) -> Result<()> {
    let store = store(&task).await?;
    run(task, gauge, store, Known::Offset).await
}

async fn run(task: Task, gauge: Arc<Gauge>, store: Postgres, known: Known) -> Result<()> {
    let identity = LogIdentity::default();
    let lanes: Vec<_> = (0..PARTITIONS).map(|partition| (partition, Position::at(0))).collect();
    let (group, topic) = (&*task.group, &*task.topic);
    store.open_topic(&Opening { group, topic, identity: &identity, lanes: &lanes }).await?;
    let mut orders: Vec<Vec<Order>> = lanes.iter().map(|_| Vec::new()).collect();
    for (partition, order) in data::orders(task.messages) {
        orders[usize::try_from(partition)?].push(order);
    }
    let lanes = (0..PARTITIONS).zip(orders).map(|(partition, orders)| {
        let id = LaneId { group: group.into(), topic: topic.into(), partition };
        work(store.clone(), id, orders, Arc::clone(&gauge), known.clone())
    });
    until_finished(&gauge, lanes.collect::<Vec<_>>()).await
}

async fn work(
    store: Postgres,
    id: LaneId,
    orders: Vec<Order>,
    gauge: Arc<Gauge>,
    mut known: Known,
) -> Result<()> {
    let owner =
        Owner { id: Uuid::new_v4(), name: "bench".into(), dead_after: Duration::from_secs(10) };
    let row = store.take(&id, &owner).await?.ok_or("the lane is not there")?;
    let mut held = row.held();
    for batch in orders.chunks(BATCH) {
        let mut batch = batch.to_vec();
        let events = batch.len();
        let writer = Writer::Lane(&held);
        let mut tx = store.begin(&writer, &Terms::default()).await?;
        match &mut known {
            Known::Rows => claim(&store, &mut tx, &writer, &mut batch, true).await?,
            Known::Packed(key, seen) => {
                pack(&store, &mut tx, &held, &mut batch, (key, seen)).await?;
            }
            Known::Offset => claim(&store, &mut tx, &writer, &mut batch, false).await?,
        }
        insert(<Postgres as Lends<_>>::lend(&mut tx), batch).await?;
        let position = Position::at(held.position.offset + i64::try_from(events)?);
        let offset_scopes: &[&str] = if matches!(known, Known::Offset) { &[SCOPE] } else { &[] };
        let seal = Seal { position, offset_scopes };
        if store.seal(&mut tx, &writer, Some(&seal)).await? != Sealed::Yes {
            return Err("the lane is another's".into());
        }
        store.commit(tx).await?;
        held.position = position;
        held.revision += 1;
        gauge.handled(events);
    }
    Ok(())
}

/// Claims the orders and keeps those that are new.
async fn claim(
    store: &Postgres,
    tx: &mut <Postgres as Store>::Tx,
    writer: &Writer<'_>,
    orders: &mut Vec<Order>,
    markers: bool,
) -> Result<()> {
    let mut keys = Vec::new();
    if markers {
        orders.sort_by_key(|order| order.event_id);
        orders.dedup_by_key(|order| order.event_id);
        keys = orders.iter().map(|it| Key::of(&it.event_id)).collect::<Result<_, _>>()?;
    }
    let claims: Vec<_> = keys
        .iter()
        .zip(0..)
        .map(|(key, offset)| Claim { offset: Some(offset), ..Claim::new(SCOPE, key) })
        .collect();
    let Claimed::Keys(new) = store.claim(tx, writer, &claims).await? else {
        return Err("the lane is another's".into());
    };
    if markers {
        let mut new = new.into_iter();
        orders.retain(|_| new.next() == Some(true));
    }
    Ok(())
}

/// Keeps the orders whose digests are new, and writes the row of their digests.
async fn pack(
    store: &Postgres,
    tx: &mut <Postgres as Store>::Tx,
    held: &Held,
    orders: &mut Vec<Order>,
    (key, seen): (&DigestKey, &mut HashSet<Digest>),
) -> Result<()> {
    let mut pack = Pack::default();
    let mut new = Vec::with_capacity(orders.len());
    for (offset, order) in (held.position.offset..).zip(orders.drain(..)) {
        let digest = key.digest(&Key::of(&order.event_id)?);
        if seen.insert(digest) {
            pack.entries.push((offset, digest));
            new.push(order);
        }
    }
    *orders = new;
    let data = pack.encode();
    let row = pack.offsets().map(|(first_offset, last_offset)| NewPack {
        scope: SCOPE,
        partitions: PARTITIONS,
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap_or(u32::MAX),
        every_slice: false,
        data: &data,
    });
    match store.pack(tx, held, row.as_slice()).await? {
        Some(_) => Ok(()),
        None => Err("the lane is another's".into()),
    }
}
