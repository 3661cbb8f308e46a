//! Cases: the rows of lanes.

use super::Harness;
use super::support::*;
use crate::lane::{Held, LaneId, Observed, Position};
use crate::store::{NewLog, Opening, Reposition, Seal, Sealed, Store as _, Writer};

pub async fn a_new_lane_has_its_start_and_its_log_and_is_nobodys<H: Harness>(harness: &H) {
    let start = Position { offset: 42, leader_epoch: Some(6) };
    let identity = log("log");
    let lanes = [(3, start)];
    let opening = Opening { group: GROUP, topic: TOPIC, identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
    let rows = harness.store().lanes(GROUP, TOPIC).await.unwrap();
    let [row] = rows.as_slice() else { panic!("one lane, not {rows:?}") };
    assert_eq!(row.id, lane(3));
    assert_eq!(row.position, start);
    assert_eq!(row.identity, identity);
    assert!(row.token.is_nil());
    assert_eq!((row.revision, row.floor), (0, 0));
    assert!(row.offset_marks.is_empty());
}

pub async fn opening_a_topic_again_keeps_its_lanes<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "e1", 9).await;
    let before = row(harness, &held).await;
    let identity = log("another log");
    let lanes = [(0, Position::at(100)), (1, Position::at(200))];
    let opening = Opening { group: GROUP, topic: TOPIC, identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
    let mut rows = harness.store().lanes(GROUP, TOPIC).await.unwrap();
    rows.sort_by_key(|row| row.id.partition);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], before);
    assert_eq!(rows[1].position, Position::at(200));
    assert_eq!(rows[1].identity, identity);
}

pub async fn a_group_has_lanes_when_it_has_one_of_any_topic<H: Harness>(harness: &H) {
    open(harness, &[0]).await;
    let identity = log("log");
    let lanes = [(3, Position::at(0))];
    let opening =
        Opening { group: "other", topic: "elsewhere", identity: &identity, lanes: &lanes };
    assert!(!harness.store().has_lanes("other").await.unwrap());
    harness.store().open_topic(&opening).await.unwrap();
    assert!(harness.store().has_lanes("other").await.unwrap());
    assert!(harness.store().has_lanes(GROUP).await.unwrap());
    assert!(!harness.store().has_lanes(TOPIC).await.unwrap(), "that is no group");
}

pub async fn topics_are_opened_together_or_not_at_all<H: Harness>(harness: &H) {
    let store = harness.store();
    let identity = log("log");
    let (first, second) = ([(0, Position::at(5))], [(0, Position::at(6)), (1, Position::at(7))]);
    let opening = |topic, lanes| Opening { group: GROUP, topic, identity: &identity, lanes };
    // A store that has rules for its rows refuses the second.
    let strange = [(-1, Position::at(0))];
    let opened = store.open_topics(&[opening("x", &first), opening("y", &strange)]).await;
    assert_eq!(store.has_lanes(GROUP).await.unwrap(), opened.is_ok());
    store.open_topics(&[]).await.unwrap();
    store.open_topics(&[opening("a", &first), opening("b", &second)]).await.unwrap();
    let positions = async |topic| {
        let rows = store.lanes(GROUP, topic).await.unwrap();
        rows.iter().map(|row| row.position.offset).collect::<Vec<_>>()
    };
    assert_eq!((positions("a").await, positions("b").await), (vec![5], vec![6, 7]));
}

pub async fn lanes_of_other_groups_and_topics_are_not_listed<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let identity = log("other");
    for (group, topic) in [("other", TOPIC), (GROUP, "other"), ("BILLING", TOPIC)] {
        let lanes = [(0, Position::at(0))];
        let opening = Opening { group, topic, identity: &identity, lanes: &lanes };
        harness.store().open_topic(&opening).await.unwrap();
    }
    let rows = harness.store().lanes(GROUP, TOPIC).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.id == lane(row.id.partition)));
    assert!(harness.store().lanes(GROUP, "nothing").await.unwrap().is_empty());
}

pub async fn a_lane_that_does_not_exist_cannot_be_taken<H: Harness>(harness: &H) {
    open(harness, &[0]).await;
    assert_eq!(harness.store().take(&lane(1), &owner("a")).await.unwrap(), None);
    let other = LaneId { topic: "other".into(), ..lane(0) };
    assert_eq!(harness.store().take(&other, &owner("a")).await.unwrap(), None);
}

pub async fn a_held_lane_is_read_as_it_is<H: Harness>(harness: &H) {
    open(harness, &[0, 1]).await;
    let taken = take(harness, 1).await;
    let held = taken.held();
    assert_eq!(row(harness, &held).await, taken);
    let gone = Held { number: 1_000_000, ..held };
    assert_eq!(harness.store().read(&gone).await.unwrap(), None);
}

async fn reposition<H: Harness>(harness: &H, held: &Held, offset: i64, new_log: bool) -> bool {
    let identity = log(if new_log { "new log" } else { "log" });
    let position = Position { offset, leader_epoch: Some(2) };
    let to = Reposition {
        position,
        identity: &identity,
        new_log: new_log.then_some(NewLog::Another),
        slices: &[],
    };
    harness.store().reposition(held, &to).await.unwrap()
}

pub async fn a_reposition_moves_a_held_lane_once<H: Harness>(harness: &H) {
    let held = held(harness).await;
    assert!(reposition(harness, &held, 30, true).await);
    let now = row(harness, &held).await;
    assert_eq!(now.position, Position { offset: 30, leader_epoch: Some(2) });
    assert_eq!(now.identity, log("new log"));
    assert_eq!(now.revision, held.revision + 1);
    assert_eq!(now.token, held.token);
    assert!(!reposition(harness, &held, 40, true).await, "its revision is another now");
    assert_eq!(row(harness, &held).await, now);
    batch(harness, &now.held(), "e1", 31).await;
}

pub async fn a_reposition_by_a_former_owner_is_refused<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let now = take(harness, 0).await;
    let former = Held { revision: now.revision, ..former };
    assert!(!reposition(harness, &former, 30, false).await);
    assert_eq!(row(harness, &former).await, now);
    let gone = Held { number: 1_000_000, ..now.held() };
    assert!(!reposition(harness, &gone, 30, false).await);
}

/// Seals a batch in which these scopes are in offset mode.
async fn mark<H: Harness>(harness: &H, held: &Held, scopes: &[&str], offset: i64) -> Held {
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let seal = Seal { position: Position::at(offset), offset_scopes: scopes };
    let sealed = harness.store().seal(&mut tx, &writer, Some(&seal)).await.unwrap();
    assert_eq!(sealed, Sealed::Yes);
    harness.store().commit(tx).await.unwrap();
    row(harness, held).await.held()
}

async fn marks<H: Harness>(harness: &H, held: &Held) -> Vec<(String, i64)> {
    let mut marks: Vec<_> = row(harness, held).await.offset_marks.into_iter().collect();
    marks.sort();
    marks
}

pub async fn offset_marks_are_kept_with_the_seal<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = mark(harness, &held, &["a", "b"], 5).await;
    let held = mark(harness, &held, &["b"], 8).await;
    let expected = [("a".to_owned(), 5), ("b".to_owned(), 8)];
    assert_eq!(marks(harness, &held).await, expected);
    let listed = harness.store().lanes(GROUP, TOPIC).await.unwrap();
    assert_eq!(listed[0].offset_marks.len(), 2);
    let taken = take(harness, 0).await;
    assert_eq!(taken.offset_marks.get("b"), Some(&8));
}

pub async fn offset_marks_never_go_down_in_one_log<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = mark(harness, &held, &["a"], 5).await;
    assert!(reposition(harness, &held, 2, false).await);
    let held = row(harness, &held).await.held();
    assert_eq!(marks(harness, &held).await, [("a".to_owned(), 5)]);
    let held = mark(harness, &held, &["a"], 3).await;
    assert_eq!(held.position.offset, 3);
    assert_eq!(marks(harness, &held).await, [("a".to_owned(), 5)]);
}

pub async fn offset_marks_are_void_in_a_new_log<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = mark(harness, &held, &["a"], 5).await;
    assert!(reposition(harness, &held, 0, true).await);
    let held = row(harness, &held).await.held();
    assert!(marks(harness, &held).await.is_empty());
    let held = mark(harness, &held, &["a"], 1).await;
    assert_eq!(marks(harness, &held).await, [("a".to_owned(), 1)]);
}

pub async fn a_look_sees_tokens_and_revisions_and_leaves_out_missing_lanes<H: Harness>(
    harness: &H,
) {
    open(harness, &[0, 1, 2]).await;
    let owner = owner("a");
    let held = take(harness, 0).await.held();
    batch(harness, &held, "e1", 1).await;
    let other = take(harness, 2).await;
    let numbers = [held.number, 1_000_000, other.number];
    let mut seen = harness.store().observe(&owner, &numbers).await.unwrap();
    seen.sort_by_key(|it| it.number);
    let Held { number, token, revision, .. } = held;
    let mut expected = [
        Observed { number, token, revision: revision + 1 },
        Observed { number: other.number, token: other.token, revision: other.revision },
    ];
    expected.sort_by_key(|it| it.number);
    assert_eq!(seen, expected);
    assert!(harness.store().observe(&owner, &[]).await.unwrap().is_empty());
}

pub async fn a_look_does_not_wait_for_a_sealed_batch<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    assert!(is_new(harness, &mut tx, &writer, "e1").await);
    harness.store().seal(&mut tx, &writer, Some(&to(1))).await.unwrap();
    let seen = harness.store().observe(&owner("a"), &[held.number]).await.unwrap();
    assert_eq!(seen[0].revision, held.revision);
    harness.store().commit(tx).await.unwrap();
    let seen = harness.store().observe(&owner("a"), &[held.number]).await.unwrap();
    assert_eq!(seen[0].revision, held.revision + 1);
}

pub async fn a_released_lane_can_be_taken_again<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "e1", 4).await;
    harness.store().release(&row(harness, &held).await.held()).await.unwrap();
    let now = take(harness, 0).await;
    assert_eq!(now.position.offset, 4);
    batch(harness, &now.held(), "e2", 5).await;
}

pub async fn a_late_release_leaves_the_new_owner_alone<H: Harness>(harness: &H) {
    let former = held(harness).await;
    let now = take(harness, 0).await;
    harness.store().release(&former).await.unwrap();
    assert_eq!(row(harness, &former).await, now);
    batch(harness, &now.held(), "e1", 1).await;
    let gone = Held { number: 1_000_000, ..former };
    harness.store().release(&gone).await.unwrap();
}
