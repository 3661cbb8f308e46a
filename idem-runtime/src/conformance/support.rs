//! Words in which the cases are written.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::{ConnectionOf, Harness};
use crate::error::Result;
use crate::key::Key;
use crate::lane::{Held, LaneId, LaneRow, LogIdentity, Owner, Position};
use crate::store::{Claim, Claimed, Lends, Opening, Seal, Sealed, Store, Terms, Writer};

pub(super) const GROUP: &str = "billing";
pub(super) const TOPIC: &str = "orders";
pub(super) const SCOPE: &str = "bill";

/// Longer than a case takes.
pub(super) const AN_HOUR: Duration = Duration::from_secs(3600);

pub(super) type TxOf<H> = <<H as Harness>::Store as Store>::Tx;

pub(super) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(super) fn lane(partition: i32) -> LaneId {
    LaneId { group: GROUP.into(), topic: TOPIC.into(), partition }
}

pub(super) fn log(topic_id: &str) -> LogIdentity {
    LogIdentity { cluster_id: Some("cluster".to_owned()), topic_id: Some(topic_id.to_owned()) }
}

pub(super) fn owner(name: &str) -> Owner {
    Owner { id: Uuid::new_v4(), name: name.to_owned(), dead_after: AN_HOUR }
}

/// A call without Kafka.
pub(super) fn direct() -> Writer<'static> {
    Writer::Direct { attempt: Uuid::new_v4() }
}

/// Opens these partitions, each at its own number.
pub(super) async fn open<H: Harness>(harness: &H, partitions: &[i32]) {
    let lanes: Vec<_> = partitions.iter().map(|it| (*it, Position::at(i64::from(*it)))).collect();
    let identity = log("log");
    let opening = Opening { group: GROUP, topic: TOPIC, identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
}

pub(super) async fn take<H: Harness>(harness: &H, partition: i32) -> LaneRow {
    harness.store().take(&lane(partition), &owner("someone")).await.unwrap().unwrap()
}

/// Opens partition 0 and takes it.
pub(super) async fn held<H: Harness>(harness: &H) -> Held {
    open(harness, &[0]).await;
    take(harness, 0).await.held()
}

pub(super) async fn row<H: Harness>(harness: &H, held: &Held) -> LaneRow {
    harness.store().read(held).await.unwrap().unwrap()
}

pub(super) async fn begin<H: Harness>(harness: &H, writer: &Writer<'_>) -> TxOf<H> {
    harness.store().begin(writer, &Terms::default()).await.unwrap()
}

/// Claims keys of one scope, which have to be sorted.
pub(super) async fn claim<H: Harness>(
    harness: &H,
    tx: &mut TxOf<H>,
    writer: &Writer<'_>,
    keys: &[&str],
) -> Result<Claimed> {
    let keys: Vec<_> = keys.iter().map(|text| key(text)).collect();
    let claims: Vec<_> = keys.iter().map(|key| plain(SCOPE, key)).collect();
    harness.store().claim(tx, writer, &claims).await
}

pub(super) fn plain<'a>(scope: &'a str, key: &'a Key) -> Claim<'a> {
    Claim::new(scope, key)
}

/// Claims one key and says whether it was new.
pub(super) async fn is_new<H: Harness>(
    harness: &H,
    tx: &mut TxOf<H>,
    writer: &Writer<'_>,
    key: &str,
) -> bool {
    match claim(harness, tx, writer, &[key]).await.unwrap() {
        Claimed::Keys(new) => new == [true],
        other => panic!("the claim of {key} was answered with {other:?}"),
    }
}

pub(super) async fn write<H: Harness>(tx: &mut TxOf<H>, effect: &str) {
    H::write(lend::<H>(tx), effect).await.unwrap();
}

pub(super) fn lend<H: Harness>(tx: &mut TxOf<H>) -> &mut ConnectionOf<H> {
    <H::Store as Lends<ConnectionOf<H>>>::lend(tx)
}

pub(super) fn to(offset: i64) -> Seal<'static> {
    Seal { position: Position::at(offset), offset_scopes: &[] }
}

/// Seals, the lane to `offset` if it is one that writes, and commits.
pub(super) async fn finish<H: Harness>(
    harness: &H,
    mut tx: TxOf<H>,
    writer: &Writer<'_>,
    offset: i64,
) {
    let seal = to(offset);
    let seal = matches!(writer, Writer::Lane(_)).then_some(&seal);
    assert_eq!(harness.store().seal(&mut tx, writer, seal).await.unwrap(), Sealed::Yes);
    harness.store().commit(tx).await.unwrap();
}

/// A whole batch of a lane with one event: its key is claimed and is new, its effect is the key.
pub(super) async fn batch<H: Harness>(harness: &H, held: &Held, key: &str, offset: i64) {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, key).await, "{key} is new");
    write::<H>(&mut tx, key).await;
    finish(harness, tx, &writer, offset).await;
}

pub(super) async fn effects<H: Harness>(harness: &H) -> Vec<String> {
    let mut effects = harness.effects().await;
    effects.sort();
    effects
}

pub(super) async fn is_marked<H: Harness>(harness: &H, text: &str) -> bool {
    harness.store().marker(SCOPE, &key(text)).await.unwrap().is_some()
}

/// Neither a marker nor an effect.
pub(super) async fn assert_untouched<H: Harness>(harness: &H, key: &str) {
    assert!(!is_marked(harness, key).await, "a marker without its transaction");
    assert_eq!(effects(harness).await, Vec::<String>::new(), "an effect without its transaction");
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
