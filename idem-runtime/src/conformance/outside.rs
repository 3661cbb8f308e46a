//! Cases: what is packed long after its delivery, and keys that were given up on, which all lanes of a
//! topic may be asked for.

use super::Harness;
use super::packing::*;
use super::slicing::divided;
use super::support::*;
use crate::lane::{Held, Position};
use crate::marker::{MarkerMode, MarkerState};
use crate::packed::{NewPack, PackRow};
use crate::store::PackedMarkers as _;
use crate::store::{Claim, NewLog, Opening, Reposition, Store as _, Writer};

/// Takes two lanes of a topic that has these.
async fn two<H: Harness>(harness: &H) -> [Held; 2] {
    open(harness, &[0, 1]).await;
    [take(harness, 0).await.held(), take(harness, 1).await.held()]
}

/// What the other lanes of the topic have for every slice, two at a time.
async fn elsewhere<H: Harness>(harness: &H, held: &Held) -> Vec<PackRow> {
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let page = harness.store().packs_elsewhere(&window(held), after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { return rows };
        after = last.id;
        rows.extend(page);
    }
}

pub async fn a_lane_packs_for_every_slice_in_its_batch<H: Harness>(harness: &H) {
    let (whole, [zero, one]) = divided(harness).await;
    let (own, late) = ([(5, digest(5))], [(1, digest(1)), (2, digest(2))]);
    let data = [encoded(&own), encoded(&late)];
    let packs =
        [new(SCOPE, &own, &data[0]), NewPack { every_slice: true, ..new(SCOPE, &late, &data[1]) }];
    let tx = packed(harness, &zero, &packs).await;
    finish(harness, tx, &Writer::Lane(&zero), 6).await;
    let row = &rows(harness, &one).await[0];
    assert_eq!((row.slice, row.every_slice, row.partitions), (None, true, PARTITIONS));
    assert_eq!((row.first_offset, row.last_offset, row.count), (1, 2, 2));
    for held in [&one, &whole] {
        assert_eq!(entries(&rows(harness, held).await), late);
    }
    let all = rows(harness, &zero).await;
    assert_eq!(entries(&all), [own.to_vec(), late.to_vec()].concat());
    assert_eq!([all[0].slice, all[1].slice], [zero.slice, None]);
    // Other slices go on, and it is in no run.
    let one = again(harness, &one).await;
    assert!(can_seal(harness, &one).await);
    assert_eq!(add_run(harness, &one, &[row.id], vec![digest(1), digest(2)]).await, None);
}

pub async fn rows_for_every_slice_are_for_all_lanes_of_the_topic<H: Harness>(harness: &H) {
    let [zero, one] = two(harness).await;
    let (identity, lanes) = (log("log"), [(0, Position::at(0))]);
    for (group, topic) in [("another", TOPIC), (GROUP, "another")] {
        let opening = Opening { group, topic, identity: &identity, lanes: &lanes };
        harness.store().open_topic(&opening).await.unwrap();
        let id = crate::lane::LaneId { group: group.into(), topic: topic.into(), partition: 0 };
        let other = harness.store().take(&id, &owner("someone")).await.unwrap().unwrap().held();
        assert!(pack_direct(harness, &other, 1, digest(100)).await);
    }
    let one = pack(harness, &one, &[(1, digest(1))]).await;
    for offset in 2..5 {
        let digest = digest(u128::try_from(offset).unwrap());
        assert!(pack_direct(harness, &one, offset, digest).await);
    }
    let found = elsewhere(harness, &zero).await;
    let expected = [2, 3, 4].map(|n| (n, digest(u128::try_from(n).unwrap())));
    assert_eq!(entries(&found), expected);
    assert!(found.iter().all(|row| row.lane == one.number && row.every_slice));
    assert!(found.is_sorted_by(|a, b| a.id < b.id));
    assert!(elsewhere(harness, &one).await.is_empty(), "its own it has");
    let other = crate::packed::WindowId { scope: "another", ..window(&zero) };
    assert!(harness.store().packs_elsewhere(&other, 0, 9).await.unwrap().is_empty());
}

pub async fn a_row_for_every_slice_is_of_the_layout_of_its_lane<H: Harness>(harness: &H) {
    let [zero, one] = two(harness).await;
    let zero = pack_among(harness, &zero, 2, &[(1, digest(1))]).await;
    let zero = pack_among(harness, &zero, 3, &[(2, digest(2))]).await;
    assert!(pack_direct(harness, &zero, 0, digest(3)).await);
    // Of one that has packed nothing, as many as whoever packs it says.
    assert!(pack_direct(harness, &one, 0, digest(4)).await);
    assert_eq!(elsewhere(harness, &one).await[0].partitions, 3);
    assert_eq!(elsewhere(harness, &zero).await[0].partitions, PARTITIONS);
    let foreign = harness.store().foreign(&window(&one), 3).await.unwrap();
    let foreign: Vec<_> =
        foreign.iter().map(|it| (it.id.partition, it.partitions, it.slices, it.count)).collect();
    assert_eq!(foreign, [(0, 2, 0, 1), (1, PARTITIONS, 0, 1)]);
    let heads = harness.store().foreign_heads(&window(&one), 3, 0, 9).await.unwrap();
    assert_eq!(heads.len(), 1, "the others are in no run and asked for as what they are");
    assert!(!heads[0].every_slice);
}

pub async fn keys_that_were_given_up_on_in_other_lanes_are_listed<H: Harness>(harness: &H) {
    let lanes = two(harness).await;
    for (lane, held) in lanes.iter().enumerate() {
        let writer = Writer::Lane(held);
        let mut tx = begin(harness, &writer).await;
        for (name, state) in [
            ("begun", MarkerState::Begun),
            ("dead", MarkerState::Dead),
            ("parked", MarkerState::Parked),
            ("processed", MarkerState::Processed),
        ] {
            let name = key(&format!("{name}{lane}"));
            let claim = Claim { state, offset: Some(1), ..plain(SCOPE, &name) };
            harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
        }
        finish(harness, tx, &writer, 2).await;
    }
    // Of no lane.
    assert!(harness.store().mark_processed(SCOPE, "direct", None).await.unwrap().is_processed());
    for (held, other) in [(&lanes[0], 1), (&lanes[1], 0)] {
        let mut keys = harness.store().given_up_elsewhere(held.number, SCOPE).await.unwrap();
        keys.sort();
        assert_eq!(keys, ["begun", "dead", "parked"].map(|name| key(&format!("{name}{other}"))));
        let another = harness.store().given_up_elsewhere(held.number, "another").await.unwrap();
        assert!(another.is_empty());
    }
}

pub async fn a_key_from_outside_concerns_all_lanes_beside_a_former_layout<H: Harness>(harness: &H) {
    let [zero, one] = two(harness).await;
    let zero = pack_among(harness, &zero, 2, &[(1, digest(1))]).await;
    let one = pack_among(harness, &one, 2, &[(1, digest(2))]).await;
    // There is none: what another lane has does not matter, and it goes on.
    assert!(pack_direct(harness, &zero, 3, digest(2)).await);
    assert!(!can_seal(harness, &zero).await);
    assert!(can_seal(harness, &one).await);
    let zero = again(harness, &zero).await;
    let zero = pack_among(harness, &zero, 1, &[(4, digest(4))]).await;
    for (known, is_new) in [(2, false), (5, true)] {
        let [first, second] = [again(harness, &zero).await, again(harness, &one).await];
        assert_eq!(pack_direct(harness, &first, 5, digest(known)).await, is_new, "{known}");
        assert!(!can_seal(harness, &first).await);
        assert!(!can_seal(harness, &second).await);
    }
    // Of another scope there is none.
    let [first, second] = [again(harness, &zero).await, again(harness, &one).await];
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let entry = [(6, digest(6))];
    let data = encoded(&entry);
    let pack = new("another", &entry, &data);
    let packed = harness.store().pack_direct(&mut tx, first.number, 6, &pack, digest(6)).await;
    assert!(packed.unwrap());
    finish(harness, tx, &writer, 0).await;
    assert!(!can_seal(harness, &first).await && can_seal(harness, &second).await);
}

pub async fn a_key_from_outside_concerns_all_lanes_beside_one_of_a_topic_that_was_made_anew<
    H: Harness,
>(
    harness: &H,
) {
    let [zero, one] = two(harness).await;
    let one = pack_among(harness, &one, 2, &[(1, digest(2))]).await;
    let (position, identity) = (Position::at(0), log("another log"));
    let anew =
        Reposition { position, identity: &identity, new_log: Some(NewLog::Another), slices: &[] };
    assert!(harness.store().reposition(&zero, &anew).await.unwrap());
    let zero = again(harness, &zero).await;
    assert!(!pack_direct(harness, &zero, 3, digest(2)).await, "it is known");
    assert!(!can_seal(harness, &zero).await && !can_seal(harness, &one).await);
}

pub async fn a_key_that_all_lanes_may_have_in_mind_is_asked_for_anew_when_it_is_forgotten<
    H: Harness,
>(
    harness: &H,
) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    // As many as its rows say that the topic has: they are of no former layout.
    open(harness, &(0..PARTITIONS).collect::<Vec<_>>()).await;
    let (zero, one) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let digest = digest_of(harness, "e1").await;
    let forget = async |name| harness.store().forget_marker(SCOPE, &key(name)).await.unwrap();
    assert!(pack_direct(harness, &zero, 0, digest).await);
    let zero = again(harness, &zero).await;
    assert!(can_seal(harness, &one).await);
    assert!(forget("e1").await);
    assert!(!can_seal(harness, &zero).await && !can_seal(harness, &one).await);
    assert!(elsewhere(harness, &one).await.is_empty());

    // One that was given up on, of which nothing is packed.
    let [zero, one] = [again(harness, &zero).await, again(harness, &one).await];
    let (writer, name) = (Writer::Lane(&zero), key("e2"));
    let mut tx = begin(harness, &writer).await;
    let claim = Claim { state: MarkerState::Dead, offset: Some(1), ..plain(SCOPE, &name) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    finish(harness, tx, &writer, 2).await;
    assert!(can_seal(harness, &one).await);
    assert!(forget("e2").await);
    assert!(!can_seal(harness, &one).await);
}
