//! Cases: attempts that were begun, and whose marker is taken over by whom.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::failures::while_open;
use super::support::*;
use super::{ConnectionOf, Harness};
use crate::error::ErrorKind;
use crate::key::Key;
use crate::marker::{Marker, MarkerState};
use crate::outcome::Outcome;
use crate::store::{Claim, Claimed, Store as _, Writer};

fn begun(key: &Key, attempt: Uuid) -> Claim<'_> {
    Claim { state: MarkerState::Begun, attempt: Some(attempt), ..plain(SCOPE, key) }
}

fn over(key: &Key, attempt: Uuid) -> Claim<'_> {
    Claim { over: Some(attempt), ..plain(SCOPE, key) }
}

/// Claims one key in a transaction of its own, and says whether it was new.
async fn claimed<H: Harness>(harness: &H, writer: &Writer<'_>, claim: Claim<'_>) -> bool {
    let mut tx = begin(harness, writer).await;
    let answer = harness.store().claim(&mut tx, writer, &[claim]).await.unwrap();
    match answer {
        Claimed::Keys(new) if new == [true] => finish(harness, tx, writer, 0).await,
        Claimed::Keys(_) => {
            harness.store().rollback(tx).await;
            return false;
        }
        other => panic!("{other:?}"),
    }
    true
}

async fn marker<H: Harness>(harness: &H, key: &Key) -> Marker {
    harness.store().marker(SCOPE, key).await.unwrap().unwrap()
}

pub async fn an_attempt_is_taken_over_only_by_its_number<H: Harness>(harness: &H) {
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    let held = held(harness).await;
    assert!(claimed(harness, &direct(), begun(&key, attempt)).await);
    for of_lane in [false, true] {
        let direct = direct();
        let writer = if of_lane { Writer::Lane(&held) } else { direct };
        for refused in [
            plain(SCOPE, &key),
            Claim { reclaim: true, ..plain(SCOPE, &key) },
            over(&key, Uuid::new_v4()),
            Claim { reclaim: true, ..over(&key, Uuid::new_v4()) },
        ] {
            assert!(!claimed(harness, &writer, refused).await, "{refused:?}");
            let marker = marker(harness, &key).await;
            assert_eq!((marker.state, marker.attempt), (MarkerState::Begun, Some(attempt)));
        }
    }
    let next = Uuid::new_v4();
    let again = Claim { over: Some(attempt), ..begun(&key, next) };
    assert!(claimed(harness, &Writer::Lane(&held), again).await);
    assert_eq!(marker(harness, &key).await.attempt, Some(next), "it is another's now");
    assert!(!claimed(harness, &direct(), over(&key, attempt)).await);
    assert!(claimed(harness, &direct(), over(&key, next)).await);
    assert_eq!(marker(harness, &key).await.state, MarkerState::Processed);
    assert!(!claimed(harness, &direct(), over(&key, next)).await, "it is done");
}

pub async fn an_attempt_that_is_gone_is_not_made_anew<H: Harness>(harness: &H) {
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    let held = held(harness).await;
    for writer in [Writer::Lane(&held), direct()] {
        assert!(!claimed(harness, &writer, over(&key, attempt)).await);
        assert!(!claimed(harness, &writer, Claim { reclaim: true, ..over(&key, attempt) }).await);
        assert!(!is_marked(harness, "e1").await);
    }
    for state in [MarkerState::Dead, MarkerState::Parked] {
        let given_up = self::key(&format!("{state:?}"));
        assert!(claimed(harness, &direct(), Claim { state, ..plain(SCOPE, &given_up) }).await);
        let over = Claim { reclaim: true, ..over(&given_up, attempt) };
        assert!(!claimed(harness, &direct(), over).await, "nobody's attempt");
        assert_eq!(marker(harness, &given_up).await.state, state);
    }
}

pub async fn of_several_claims_each_takes_over_what_it_names<H: Harness>(harness: &H) {
    let keys = ["a", "b", "c", "d", "e"].map(key);
    let [a, b, c, d, e] = &keys;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(claimed(harness, &direct(), begun(a, first)).await);
    assert!(claimed(harness, &direct(), begun(b, second)).await);
    let dead = Claim { state: MarkerState::Dead, ..plain(SCOPE, c) };
    assert!(claimed(harness, &direct(), dead).await);
    let claims = [
        over(a, first),
        over(b, first),
        Claim { reclaim: true, ..plain(SCOPE, c) },
        plain(SCOPE, d),
        over(e, second),
    ];
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let answer = harness.store().claim(&mut tx, &writer, &claims).await.unwrap();
    assert_eq!(answer, Claimed::Keys(vec![true, false, true, true, false]));
    finish(harness, tx, &writer, 0).await;
    for key in [a, c, d] {
        assert_eq!(marker(harness, key).await.state, MarkerState::Processed, "{key}");
    }
    assert_eq!(marker(harness, b).await.attempt, Some(second));
    assert!(!is_marked(harness, "e").await);
}

pub async fn who_takes_an_attempt_over_waits_for_another_who_does<H: Harness>(harness: &H) {
    for kept in [true, false] {
        let (key, attempt) = (key(if kept { "kept" } else { "undone" }), Uuid::new_v4());
        assert!(claimed(harness, &direct(), begun(&key, attempt)).await);
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        let first = harness.store().claim(&mut tx, &writer, &[over(&key, attempt)]).await;
        assert_eq!(first.unwrap(), Claimed::Keys(vec![true]));
        if !kept {
            harness.store().rollback(tx).await;
            assert!(claimed(harness, &direct(), over(&key, attempt)).await);
            continue;
        }
        let second = async {
            let writer = direct();
            let mut tx = begin(harness, &writer).await;
            let claim = over(&key, attempt);
            let answer = harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
            assert_eq!(answer, Claimed::Keys(vec![false]));
            let known = harness.store().known(&mut tx, &[(SCOPE, &key)]).await.unwrap();
            assert_eq!(known[0].as_ref().unwrap().state, MarkerState::Processed);
            tx
        };
        let second = while_open(harness, tx, &writer, second).await;
        harness.store().rollback(second).await;
    }
}

pub async fn metadata_that_are_given_with_a_take_over_are_kept<H: Harness>(harness: &H) {
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    let metadata = [json(r#"{"n": 1}"#), json(r#"{"n": 2}"#)];
    let first = Claim { metadata: Some(&metadata[0]), ..begun(&key, attempt) };
    assert!(claimed(harness, &direct(), first).await);
    assert!(
        claimed(harness, &direct(), Claim { over: Some(attempt), ..begun(&key, attempt) }).await
    );
    assert_eq!(marker(harness, &key).await.metadata.as_ref(), Some(&metadata[0]));
    let last = Claim { metadata: Some(&metadata[1]), ..over(&key, attempt) };
    assert!(claimed(harness, &direct(), last).await);
    assert_eq!(marker(harness, &key).await.metadata.as_ref(), Some(&metadata[1]));
}

pub async fn the_fingerprint_of_an_attempt_stays_unless_another_is_given<H: Harness>(harness: &H) {
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    let held = held(harness).await;
    let first = Claim { fingerprint: Some([1; 16]), ..begun(&key, attempt) };
    assert!(claimed(harness, &Writer::Lane(&held), first).await);
    // As who says that the attempt had its effect, and knows no payload.
    for (writer, fingerprint, expected) in
        [(direct(), None, [1; 16]), (direct(), Some([2; 16]), [2; 16])]
    {
        let again = Claim { over: Some(attempt), fingerprint, ..begun(&key, attempt) };
        assert!(claimed(harness, &writer, again).await);
        assert_eq!(marker(harness, &key).await.fingerprint, Some(expected));
    }
    let held = row(harness, &held).await.held();
    assert!(claimed(harness, &Writer::Lane(&held), over(&key, attempt)).await);
    assert_eq!(marker(harness, &key).await.fingerprint, Some([2; 16]));
}

pub async fn the_age_of_an_attempt_is_told_and_begins_anew_with_another<H: Harness>(harness: &H) {
    let (key, attempt) = (key("e1"), Uuid::new_v4());
    assert!(claimed(harness, &direct(), begun(&key, attempt)).await);
    // Long enough that what comes after it takes less.
    let old = Duration::from_millis(700);
    let deadline = Instant::now() + Duration::from_secs(60);
    while marker(harness, &key).await.age < old {
        assert!(Instant::now() < deadline, "it does not grow older");
        tokio::task::yield_now().await;
    }
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let known = harness.store().known(&mut tx, &[(SCOPE, &key)]).await.unwrap();
    let known = known[0].as_ref().unwrap().age;
    assert!((old..AN_HOUR).contains(&known), "{known:?}");
    harness.store().rollback(tx).await;
    let before = Instant::now();
    let again = Claim { over: Some(attempt), ..begun(&key, Uuid::new_v4()) };
    assert!(claimed(harness, &direct(), again).await);
    let age = marker(harness, &key).await.age;
    // By two clocks, of which one counts milliseconds.
    assert!(age <= before.elapsed() + Duration::from_millis(100), "{age:?}");
}

pub async fn marking_settles_an_attempt_that_was_begun<H: Harness>(harness: &H) {
    let (key, store) = (key("e1"), harness.store());
    let held = held(harness).await;
    let begun = Claim { offset: Some(4), ..begun(&key, Uuid::new_v4()) };
    assert!(claimed(harness, &Writer::Lane(&held), begun).await);
    let effects = async |connection: &mut ConnectionOf<H>| H::write(connection, "e1").await;
    let error = store.process_if_new(SCOPE, "e1", effects).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEnd, "{error:?}");
    assert!(error.to_string().contains("scope bill, key e1"), "{error}");
    assert_eq!(self::effects(harness).await, Vec::<String>::new());

    let metadata = json(r#"{"by": "ana"}"#);
    let outcome = store.mark_processed(SCOPE, "e1", Some(metadata.clone())).await.unwrap();
    assert_eq!(outcome, Outcome::Settled);
    let marker = marker(harness, &key).await;
    assert_eq!((marker.state, marker.metadata), (MarkerState::Processed, Some(metadata)));
    assert_eq!(marker.origin.unwrap().offset, 4);
    assert!(store.is_processed(SCOPE, "e1").await.unwrap());
    assert!(store.mark_processed(SCOPE, "e1", None).await.unwrap().is_duplicate());
    assert_eq!(store.mark_processed(SCOPE, "e2", None).await.unwrap(), Outcome::Processed(()));
}
