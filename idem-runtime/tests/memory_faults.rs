//! The store in memory fails as a database does, when a test asks it to.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

use std::time::{Duration, SystemTime};

use idem_runtime::lane::{AttemptRow, LaneId, LogIdentity, Owner, Position};
use idem_runtime::memory::{Memory, MemoryError, Point};
use idem_runtime::store::{Claim, Fault, Lends as _, Opening, Seal, Sealed, Terms, Writer};
use idem_runtime::{
    Cause, Error, ErrorKind, Event, FailureClass, IsolationLevel, Key, LetterState, MarkerState,
    NewLetter, Store,
};
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

#[tokio::test]
async fn an_owner_that_was_not_heard_of_for_long_has_died() {
    let store = Memory::new();
    held(&store).await;
    let owner = |name: &str| Owner {
        id: Uuid::new_v4(),
        name: name.into(),
        dead_after: Duration::from_secs(30),
    };
    let second = owner("second");
    assert_eq!(store.take(&lane(), &second).await.unwrap().unwrap().deaths, 0);
    store.age_heartbeats(Duration::from_secs(60));
    store.observe(&second, &[]).await.unwrap();
    assert_eq!(store.take(&lane(), &owner("third")).await.unwrap().unwrap().deaths, 0);
    store.age_heartbeats(Duration::from_secs(60));
    assert_eq!(store.take(&lane(), &owner("fourth")).await.unwrap().unwrap().deaths, 1);
}

#[tokio::test]
async fn every_fault_can_be_made() {
    let store = Memory::new();
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    for fault in [Fault::Transient, Fault::Lost, Fault::Permanent, Fault::HandlerBroke] {
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        let connection = Memory::lend(&mut tx);
        let error = match fault {
            Fault::Transient => connection.fail_transiently().await,
            Fault::Lost => connection.lose_connection().await,
            Fault::Permanent => connection.fail_permanently().await,
            _ => connection.commit_behind_back().await,
        };
        let error = Error::new(ErrorKind::Handler, "it failed").with_source(error.unwrap_err());
        assert_eq!(Memory::fault(&error), fault);
        assert_eq!(store.rollback(tx).await, fault != Fault::Lost, "{fault:?}");
    }
    assert_eq!(Memory::fault(&MemoryError::new(Fault::Handler, "its own")), Fault::Handler);
    assert!(store.look(|view| view.open() == 0));
}

#[tokio::test]
async fn a_rollback_says_when_the_connection_was_lost() {
    let store = Memory::new();
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let begin = async || store.begin(&writer, &Terms::default()).await.unwrap();
    store.faults().fail(Point::Rollback, ErrorKind::Transient);
    assert!(!store.rollback(begin().await).await);
    let tx = begin().await;
    store.faults().disconnect();
    assert!(!store.rollback(tx).await);
    store.faults().reconnect();
    assert!(store.rollback(begin().await).await);
}

#[tokio::test]
async fn a_test_can_look_at_what_was_kept_of_failures() {
    let store = Memory::new();
    let held = held(&store).await;
    let writer = Writer::Lane(&held);
    let terms = Terms { isolation: IsolationLevel::Serializable, ..Terms::default() };
    let mut tx = store.begin(&writer, &terms).await.unwrap();
    let mut event = Event::new("t".into(), 0, 0, "{}");
    event.message_key = Some("k".into());
    let cause = Cause {
        class: FailureClass::Handler,
        permanent: true,
        error: "no".into(),
        attempts: 1,
        first_failed_at: SystemTime::now(),
    };
    let key = Key::new("e0").unwrap();
    let claim = Claim { state: MarkerState::Parked, ..Claim::new("s", &key) };
    let _ = store.claim(&mut tx, &writer, &[claim]).await.unwrap();
    let (scope, state, cause) = ("s", LetterState::Parked, Some(&cause));
    let (event, digest) = (&event, event.digest());
    let letter = NewLetter { scope, key: Some(&key), event, digest, state, cause };
    store.give_up(&mut tx, &held, &[letter]).await.unwrap();
    let seal = Seal { position: Position::at(1), offset_scopes: &[] };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    let attempt = AttemptRow {
        scope: "s".into(),
        offset: 1,
        failures: 1,
        first_failed_at: SystemTime::now(),
        open: true,
        deaths: 0,
    };
    store.note_attempt(&held, &attempt).await.unwrap();
    store.cut(&held, 2).await.unwrap();
    store.look(|view| {
        let row = view.lane(&lane()).unwrap();
        assert_eq!((row.deaths, &row.attempts), (0, &vec![attempt]));
        assert_eq!(row.parked, [("s".to_owned(), b"k".to_vec())]);
        let parked = view.parked(&lane());
        assert_eq!((parked.len(), parked[0].waiting, parked[0].released), (1, 0, false));
        let letters = view.letters();
        assert_eq!((letters.len(), letters[0].state), (1, state));
        assert_eq!(letters[0].cause.as_ref(), cause);
        assert_eq!(view.marker("s", "e0"), Some(MarkerState::Parked));
        assert_eq!(view.slices(&lane()), [Position::at(1); 2]);
        assert_eq!(view.terms(), [terms]);
    });
}

#[tokio::test]
async fn a_step_of_failures_fails_at_its_point() {
    let store = Memory::new();
    let held = held(&store).await;
    store.faults().fail(Point::Cut, ErrorKind::Transient);
    assert_eq!(store.cut(&held, 2).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(store.cut(&held, 2).await.unwrap(), Some(vec![0, 0]));
    store.faults().fail(Point::GiveUp, ErrorKind::Store);
    let writer = Writer::Lane(&held);
    let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
    assert_eq!(store.give_up(&mut tx, &held, &[]).await.unwrap_err().kind(), ErrorKind::Store);
}
