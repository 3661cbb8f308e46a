//! Cases: markers of events that were given up on, and taking them over.

use std::time::Duration;

use uuid::Uuid;

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::key::Key;
use crate::lane::Held;
use crate::marker::{Marker, MarkerState, Origin};
use crate::store::{Claim, Claimed, GivenUp, Store as _, Writer};

const REST: [MarkerState; 2] = [MarkerState::Dead, MarkerState::Parked];

/// Claims these in a transaction of their own.
async fn claimed<H: Harness>(
    harness: &H,
    writer: &Writer<'_>,
    claims: &[Claim<'_>],
    offset: i64,
) -> Vec<bool> {
    let mut tx = begin(harness, writer).await;
    let answer = harness.store().claim(&mut tx, writer, claims).await.unwrap();
    finish(harness, tx, writer, offset).await;
    match answer {
        Claimed::Keys(new) => new,
        other => panic!("{other:?}"),
    }
}

/// A marker of partition 0 that says this.
async fn marked<H: Harness>(harness: &H, held: &Held, text: &str, state: MarkerState) -> Held {
    let key = key(text);
    let claim = Claim { state, offset: Some(17), ..plain(SCOPE, &key) };
    assert_eq!(claimed(harness, &Writer::Lane(held), &[claim], 18).await, [true]);
    row(harness, held).await.held()
}

/// Without its age, which is not twice the same.
async fn marker<H: Harness>(harness: &H, text: &str) -> Marker {
    let marker = harness.store().marker(SCOPE, &key(text)).await.unwrap().unwrap();
    Marker { age: Duration::ZERO, ..marker }
}

async fn given_up<H: Harness>(
    harness: &H,
    tx: &mut TxOf<H>,
    texts: &[&str],
) -> Vec<Option<GivenUp>> {
    let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
    let keys: Vec<_> = keys.iter().map(|key| (SCOPE, key)).collect();
    harness.store().given_up(tx, &keys).await.unwrap()
}

fn reclaim(key: &Key) -> Claim<'_> {
    Claim { reclaim: true, ..plain(SCOPE, key) }
}

fn origin() -> Origin {
    Origin { group: GROUP.into(), topic: TOPIC.into(), partition: 0, offset: 17 }
}

pub async fn a_marker_tells_that_its_event_was_given_up_on<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    for (text, state) in ["dead", "parked"].into_iter().zip(REST) {
        held = marked(harness, &held, text, state).await;
        let marker = marker(harness, text).await;
        assert_eq!((marker.state, marker.origin), (state, Some(origin())));
    }
}

pub async fn claims_of_one_statement_have_a_state_each<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    let keys = ["a", "b", "c", "d"].map(key);
    let states =
        [MarkerState::Parked, MarkerState::Processed, MarkerState::Dead, MarkerState::Processed];
    let metadata = json(r#"{"n": 1}"#);
    let claims: Vec<_> = (keys.iter().zip(states).zip(5..))
        .map(|((key, state), offset)| {
            let metadata = Some(&metadata).filter(|_| offset % 2 == 0);
            Claim { state, offset: Some(offset), metadata, ..plain(SCOPE, key) }
        })
        .collect();
    assert_eq!(claimed(harness, &writer, &claims, 10).await, [true; 4]);
    for ((key, state), offset) in keys.iter().zip(states).zip(5..) {
        let marker = marker(harness, key.as_str()).await;
        assert_eq!(marker.state, state);
        assert_eq!(marker.origin.unwrap().offset, offset);
        assert_eq!(marker.metadata.is_some(), offset % 2 == 0);
    }
}

pub async fn a_key_that_was_given_up_on_is_known<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    for (text, state) in ["dead", "parked"].into_iter().zip(REST) {
        held = marked(harness, &held, text, state).await;
        let key = key(text);
        for state in [MarkerState::Processed, MarkerState::Dead, MarkerState::Parked] {
            let claim = Claim { state, ..plain(SCOPE, &key) };
            assert_eq!(claimed(harness, &direct(), &[claim], 0).await, [false]);
        }
        assert_eq!(marker(harness, text).await.state, state, "it stays as it was");
    }
}

pub async fn of_known_keys_those_that_were_given_up_on_are_told<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "done", 1).await;
    let held = row(harness, &held).await.held();
    let held = marked(harness, &held, "dead", MarkerState::Dead).await;
    let held = marked(harness, &held, "parked", MarkerState::Parked).await;
    let by_hand = key("by hand");
    let claim = Claim { state: MarkerState::Dead, ..plain(SCOPE, &by_hand) };
    assert_eq!(claimed(harness, &direct(), &[claim], 0).await, [true]);

    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let of_lane = |state| Some(GivenUp { state, lane: Some(held.number), offset: Some(17) });
    let (dead, parked) = (of_lane(MarkerState::Dead), of_lane(MarkerState::Parked));
    let asked = ["parked", "done", "dead", "never seen", "by hand"];
    let answers = given_up(harness, &mut tx, &asked).await;
    let by_hand = Some(GivenUp { state: MarkerState::Dead, lane: None, offset: None });
    assert_eq!(answers, [parked, None, dead, None, by_hand]);
    assert_eq!(given_up(harness, &mut tx, &["done"]).await, [None]);
    assert_eq!(given_up(harness, &mut tx, &[]).await, []);
    let key = key("dead");
    let other = harness.store().given_up(&mut tx, &[("other", &key)]).await.unwrap();
    assert_eq!(other, [None]);
    finish(harness, tx, &writer, 20).await;
}

pub async fn what_a_claim_waited_for_is_seen_to_be_given_up_on<H: Harness>(harness: &H) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let key = key("e1");
    let claim = Claim { state: MarkerState::Dead, ..plain(SCOPE, &key) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    let second = async {
        let mut tx = begin(harness, &direct()).await;
        assert!(!is_new(harness, &mut tx, &direct(), "e1").await);
        tx
    };
    let mut second = while_open(harness, tx, &writer, second).await;
    let answers = given_up(harness, &mut second, &["e1"]).await;
    assert_eq!(answers[0].unwrap().state, MarkerState::Dead);
    harness.store().rollback(second).await;
}

pub async fn a_marker_that_is_taken_over_keeps_its_origin<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    let metadata = json(r#"{"by": "the first"}"#);
    let other = json(r#"{"by": "another"}"#);
    for (text, state) in ["dead", "parked"].into_iter().zip(REST) {
        let key = key(text);
        let (metadata, fingerprint) = (Some(&metadata), Some([1; 16]));
        let claim = Claim { state, offset: Some(17), metadata, fingerprint, ..plain(SCOPE, &key) };
        assert_eq!(claimed(harness, &Writer::Lane(&held), &[claim], 18).await, [true]);
        held = row(harness, &held).await.held();
        let attempt = Uuid::new_v4();
        // The fingerprint is of the payload that is worked now.
        let fingerprint = (state == MarkerState::Dead).then_some([2; 16]);
        let again = Claim { metadata: Some(&other), fingerprint, ..reclaim(&key) };
        assert_eq!(claimed(harness, &Writer::Direct { attempt }, &[again], 0).await, [true]);
        let after = marker(harness, text).await;
        assert_eq!(after.fingerprint, fingerprint);
        assert_eq!((after.state, after.attempt), (MarkerState::Processed, Some(attempt)));
        assert_eq!((after.origin, after.metadata.as_ref()), (Some(origin()), metadata));
    }
}

pub async fn a_marker_is_taken_over_once<H: Harness>(harness: &H) {
    let held = held(harness).await;
    marked(harness, &held, "e1", MarkerState::Dead).await;
    let key = key("e1");
    assert_eq!(claimed(harness, &direct(), &[reclaim(&key)], 0).await, [true]);
    assert_eq!(claimed(harness, &direct(), &[reclaim(&key)], 0).await, [false]);
    let mut tx = begin(harness, &direct()).await;
    assert_eq!(given_up(harness, &mut tx, &["e1"]).await, [None]);
    harness.store().rollback(tx).await;
}

pub async fn a_key_that_was_never_seen_can_be_reclaimed<H: Harness>(harness: &H) {
    let key = key("e1");
    assert_eq!(claimed(harness, &direct(), &[reclaim(&key)], 0).await, [true]);
    assert_eq!(marker(harness, "e1").await.state, MarkerState::Processed);
}

pub async fn a_marker_can_be_taken_over_to_be_given_up_on_again<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = marked(harness, &held, "e1", MarkerState::Parked).await;
    let key = key("e1");
    let claim = Claim { state: MarkerState::Dead, offset: Some(99), ..reclaim(&key) };
    assert_eq!(claimed(harness, &Writer::Lane(&held), &[claim], 20).await, [true]);
    let marker = marker(harness, "e1").await;
    assert_eq!((marker.state, marker.origin), (MarkerState::Dead, Some(origin())));
}

pub async fn only_claims_that_ask_for_it_take_a_marker_over<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = marked(harness, &held, "a", MarkerState::Dead).await;
    let held = marked(harness, &held, "b", MarkerState::Dead).await;
    marked(harness, &held, "c", MarkerState::Processed).await;
    let [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(key);
    let claims = [plain(SCOPE, &a), reclaim(&b), reclaim(&c), plain(SCOPE, &d), reclaim(&e)];
    let new = claimed(harness, &direct(), &claims, 0).await;
    assert_eq!(new, [false, true, false, true, true]);
    assert_eq!(marker(harness, "a").await.state, MarkerState::Dead);
    assert_eq!(marker(harness, "b").await.state, MarkerState::Processed);
}

pub async fn a_take_over_that_is_rolled_back_leaves_the_marker<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = marked(harness, &held, "e1", MarkerState::Dead).await;
    let key = key("e1");
    let before = marker(harness, "e1").await;
    for writer in [direct(), Writer::Lane(&held)] {
        let mut tx = begin(harness, &writer).await;
        let claimed = harness.store().claim(&mut tx, &writer, &[reclaim(&key)]).await.unwrap();
        assert_eq!(claimed, Claimed::Keys(vec![true]));
        assert!(harness.store().rollback(tx).await);
        assert_eq!(marker(harness, "e1").await, before);
    }
}

pub async fn a_former_owner_takes_no_marker_over<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let former = marked(harness, &former, "e1", MarkerState::Dead).await;
    take(harness, 0).await;
    let (key, fresh) = (key("e1"), key("e2"));
    let writer = Writer::Lane(&former);
    let mut tx = begin(harness, &writer).await;
    let dead = Claim { state: MarkerState::Dead, ..plain(SCOPE, &fresh) };
    for claim in [reclaim(&key), dead] {
        let claimed = harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
        assert_eq!(claimed, Claimed::Fenced);
    }
    harness.store().rollback(tx).await;
    assert_eq!(marker(harness, "e1").await.state, MarkerState::Dead);
    assert!(!is_marked(harness, "e2").await);
}

/// Two want the key of a dead event: the first takes it over.
async fn race<H: Harness>(harness: &H, second_reclaims: bool) {
    let held = held(harness).await;
    marked(harness, &held, "e1", MarkerState::Dead).await;
    let key = key("e1");
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let first = harness.store().claim(&mut tx, &writer, &[reclaim(&key)]).await.unwrap();
    assert_eq!(first, Claimed::Keys(vec![true]));
    let second = async {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        let claim = Claim { reclaim: second_reclaims, ..plain(SCOPE, &key) };
        let claimed = harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
        assert_eq!(claimed, Claimed::Keys(vec![false]));
        tx
    };
    let mut second = while_open(harness, tx, &writer, second).await;
    assert_eq!(given_up(harness, &mut second, &["e1"]).await, [None]);
    harness.store().rollback(second).await;
}

pub async fn of_two_who_take_a_marker_over_one_does<H: Harness>(harness: &H) {
    race(harness, true).await;
}

pub async fn a_claim_waits_for_who_takes_its_marker_over<H: Harness>(harness: &H) {
    race(harness, false).await;
}

pub async fn many_markers_are_taken_over_in_their_order<H: Harness>(harness: &H) {
    const KEYS: usize = 600;
    let keys: Vec<_> = (0..KEYS).map(|it| key(&format!("e{it:05}"))).collect();
    let state = MarkerState::Dead;
    let thirds: Vec<_> =
        keys.iter().step_by(3).map(|key| Claim { state, ..plain(SCOPE, key) }).collect();
    assert!(claimed(harness, &direct(), &thirds, 0).await.iter().all(|new| *new));
    let claims: Vec<_> = (keys.iter().enumerate())
        .map(|(it, key)| Claim { reclaim: it % 2 == 0, ..plain(SCOPE, key) })
        .collect();
    let expected: Vec<_> = (0..KEYS).map(|it| it % 3 != 0 || it % 2 == 0).collect();
    assert_eq!(claimed(harness, &direct(), &claims, 0).await, expected);
}
