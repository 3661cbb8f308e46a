//! The store in memory fails as a database does, when a test asks it to.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

use std::time::Duration;

use idem_runtime::lane::{LaneId, LogIdentity, Owner, Position};
use idem_runtime::memory::{Memory, Point};
use idem_runtime::store::{Claim, Lends as _, Opening, Seal, Sealed, Terms, Writer};
use idem_runtime::{ErrorKind, Key, Store};
use uuid::Uuid;

fn lane() -> LaneId {
    LaneId { group: "g".into(), topic: "t".into(), partition: 0 }
}

async fn held(store: &Memory) -> idem_runtime::lane::Held {
    let lanes = [(0, Position::at(0))];
    let identity = LogIdentity::default();
    let opening = Opening { group: "g", topic: "t", identity: &identity, lanes: &lanes };
    store.open_topic(&opening).await.unwrap();
    let owner = Owner { id: Uuid::new_v4(), name: "o".into(), dead_after: Duration::from_secs(1) };
    store.take(&lane(), &owner).await.unwrap().unwrap().held()
}

async fn batch(store: &Memory, offset: i64) -> idem_runtime::Result<()> {
    let held = store.lane(&lane()).unwrap().held();
    let writer = Writer::Lane(&held);
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let key = Key::new(offset.to_string()).unwrap();
    let claim = Claim { offset: Some(offset), ..Claim::new("s", &key) };
    let _ = store.claim(&mut tx, &writer, &[claim]).await?;
    Memory::lend(&mut tx).insert("rows", offset.to_string()).await.unwrap();
    let seal = Seal { position: Position::at(offset + 1), offset_scopes: &[] };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await?, Sealed::Yes);
    store.commit(tx).await
}

#[tokio::test]
async fn a_restored_database_has_lost_what_came_after() {
    let store = Memory::new();
    held(&store).await;
    batch(&store, 0).await.unwrap();
    let earlier = store.snapshot();
    batch(&store, 1).await.unwrap();
    store.restore(&earlier);
    assert_eq!(store.rows("rows"), ["0"]);
    assert_eq!(store.lane(&lane()).unwrap().position.offset, 1);
    assert_eq!(store.look(|view| view.keys("s")), ["0"]);
    batch(&store, 1).await.unwrap();
    assert_eq!(store.rows("rows"), ["0", "1"]);
}

#[tokio::test]
async fn open_transactions_do_not_survive_a_restore_or_a_lost_connection() {
    let store = Memory::new();
    let held = held(&store).await;
    let writer = Writer::Lane(&held);
    for lose in [true, false] {
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        if lose {
            store.restore(&store.snapshot());
        } else {
            store.faults().disconnect();
            store.faults().reconnect();
        }
        assert!(Memory::lend(&mut tx).insert("rows", "x").await.is_err());
        let error = store.seal(&mut tx, &writer, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert_eq!(store.commit(tx).await.unwrap_err().kind(), ErrorKind::Transient);
    }
    assert!(store.rows("rows").is_empty());
}

#[tokio::test]
async fn a_deadlock_ends_one_of_the_two() {
    let store = Memory::new();
    let (one, two) = (Key::new("1").unwrap(), Key::new("2").unwrap());
    let claims = async |first: &Key, second: &Key| {
        let writer = Writer::Direct { attempt: Uuid::new_v4() };
        let mut tx = store.begin(&writer, &Terms::default()).await?;
        for key in [first, second] {
            let claim = Claim::new("s", key);
            let _ = store.claim(&mut tx, &writer, &[claim]).await?;
            tokio::task::yield_now().await;
        }
        store.seal(&mut tx, &writer, None).await?;
        store.commit(tx).await
    };
    let (a, b) = tokio::join!(claims(&one, &two), claims(&two, &one));
    assert_ne!(a.is_ok(), b.is_ok());
    assert_eq!(a.and(b).unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(store.look(|view| view.keys("s")), ["1", "2"]);
}

#[tokio::test]
async fn a_paused_commit_holds_the_lane_until_it_is_released() {
    let store = Memory::new();
    held(&store).await;
    let pause = store.faults().pause(Point::Commit);
    let owner =
        Owner { id: Uuid::new_v4(), name: "next".into(), dead_after: Duration::from_secs(1) };
    let next = async {
        pause.reached().await;
        let id = lane();
        let take = store.take(&id, &owner);
        let (taken, ()) = tokio::join!(take, async { pause.release() });
        taken.unwrap().unwrap().position.offset
    };
    let (committed, position) = tokio::join!(batch(&store, 6), next);
    committed.unwrap();
    assert_eq!(position, 7);
}

#[tokio::test]
async fn each_failure_happens_once_and_at_its_point() {
    let store = Memory::new();
    held(&store).await;
    for point in [Point::Begin, Point::Claim, Point::Seal, Point::Commit] {
        store.faults().fail(point, ErrorKind::Transient);
        assert_eq!(batch(&store, 0).await.unwrap_err().kind(), ErrorKind::Transient, "{point:?}");
        assert!(store.look(|view| view.open() == 0 && view.rows("rows").is_empty()));
    }
    batch(&store, 0).await.unwrap();
}

#[tokio::test]
async fn a_dropped_lane_is_gone() {
    let store = Memory::new();
    let held = held(&store).await;
    assert!(store.drop_lane(&lane()));
    assert!(!store.drop_lane(&lane()));
    assert_eq!(store.read(&held).await.unwrap(), None);
}
