//! Cases: packed markers of before a log lost its tail, and of before a scope was switched.

use std::time::Duration;

use uuid::Uuid;

use super::Harness;
use super::packing::*;
use super::slicing::{cut, divided, seal, slice, slices};
use super::support::*;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::lane::{Held, Position};
use crate::marker::{MarkerMode, MarkerState};
use crate::packed::Floor;
use crate::scope::Registration;
use crate::store::PackedMarkers as _;
use crate::store::{Claim, Claimed, NewLog, Reposition, Sealed, Store as _, Writer};

/// Moves the lane to this offset, of the same log or another one; answers the lane as it is then.
async fn moved<H: Harness>(harness: &H, held: &Held, to: i64, new_log: Option<NewLog>) -> Held {
    let (position, identity) = (Position::at(to), log("log"));
    let to = Reposition { position, identity: &identity, new_log, slices: &[] };
    assert!(harness.store().reposition(held, &to).await.unwrap());
    again(harness, held).await
}

async fn forget<H: Harness>(harness: &H, held: &Held, rows: &[i64], offset: i64, is_early: bool) {
    let floor = Some(Floor { offset, is_early });
    assert!(harness.store().forget_packs(held, SCOPE, rows, floor).await.unwrap());
}

/// The window's log, the first one, its floor, whether that is early, and what was handled.
async fn known<H: Harness>(harness: &H, held: &Held) -> (i32, i32, i64, bool, i64) {
    let window = harness.store().window(&window(held)).await.unwrap();
    (window.log, window.first_log, window.floor, window.is_early, window.handled_to)
}

pub async fn a_log_that_lost_its_tail_is_what_it_was_below_its_end<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = pack(harness, &held, &[(6, digest(1))]).await;
    assert_eq!(known(harness, &held).await, (0, 0, 0, false, 7));
    forget(harness, &held, &[], 5, true).await;
    let held = moved(harness, &held, 2, Some(NewLog::Shorter(6))).await;
    assert_eq!(known(harness, &held).await, (1, 0, 5, true, 6));
    // Rows of before are of the log as it is; and the floor stays early.
    let old = ids(&rows(harness, &held).await);
    let held = pack(harness, &held, &[(7, digest(2))]).await;
    forget(harness, &held, &old, 7, false).await;
    assert_eq!(known(harness, &held).await, (1, 0, 7, true, 8));
    let held = moved(harness, &held, 0, Some(NewLog::Shorter(4))).await;
    assert_eq!(known(harness, &held).await, (2, 0, 4, true, 4));
    // Another log knows nothing of that, and what is forgotten of those before raises no floor of it.
    let held = moved(harness, &held, 0, Some(NewLog::Another)).await;
    assert_eq!(known(harness, &held).await, (3, 3, 0, false, 0));
    let old = ids(&rows(harness, &held).await);
    assert_eq!(old.len(), 1);
    forget(harness, &held, &old, 9, true).await;
    assert_eq!(known(harness, &held).await, (3, 3, 0, false, 0));
    forget(harness, &held, &[], 1, false).await;
    assert_eq!(known(harness, &held).await, (3, 3, 1, false, 0));
}

pub async fn a_floor_that_is_not_early_says_nothing_of_a_log_that_lost_its_tail<H: Harness>(
    harness: &H,
) {
    let held = held(harness).await;
    let held = pack(harness, &held, &[(6, digest(1))]).await;
    forget(harness, &held, &[], 5, false).await;
    let held = moved(harness, &held, 0, Some(NewLog::Shorter(3))).await;
    assert_eq!(known(harness, &held).await, (1, 0, 0, false, 3));
}

pub async fn what_was_handled_before_a_lane_was_moved_back_is_known<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let handled = async |held: &Held| known(harness, held).await.4;
    let held = pack(harness, &held, &[(9, digest(1))]).await;
    assert_eq!(handled(&held).await, 10);
    let held = moved(harness, &held, 3, None).await;
    assert_eq!(handled(&held).await, 10);
    let held = pack(harness, &held, &[(4, digest(2))]).await;
    assert_eq!((handled(&held).await, held.position.offset), (10, 5));
    let held = pack(harness, &held, &[(11, digest(3))]).await;
    assert_eq!(handled(&held).await, 12);
}

pub async fn what_slices_have_handled_is_known<H: Harness>(harness: &H) {
    let (held, [zero, one]) = divided(harness).await;
    assert_eq!(seal(harness, &zero, 4).await, Sealed::Yes);
    assert_eq!(seal(harness, &one, 8).await, Sealed::Yes);
    for it in [&held, &zero, &one] {
        assert_eq!(known(harness, it).await.4, 8);
    }
    let held = moved(harness, &again(harness, &held).await, 1, None).await;
    assert_eq!(known(harness, &held).await.4, 8);
    // Also when there are others, which begin where the lane is.
    let [zero, one] =
        [slice(harness, &held, 0, 2).await.unwrap(), slice(harness, &held, 1, 2).await.unwrap()];
    assert_eq!(seal(harness, &zero, 9).await, Sealed::Yes);
    assert_eq!(seal(harness, &one, 12).await, Sealed::Yes);
    cut(harness, &held, 3).await;
    assert_eq!(slice(harness, &held, 1, 3).await.unwrap().position.offset, 1);
    assert_eq!(known(harness, &held).await.4, 12);
}

pub async fn a_scope_that_forgot_something_early_is_not_adopted<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let held = held(harness).await;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    let held = again(harness, &held).await;
    for is_early in [false, true] {
        forget(harness, &held, &[], 5, is_early).await;
        let adopted = register(harness, "another", MarkerMode::Rows).await;
        if is_early {
            let refused = adopted.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Scope);
            for part in [&format!("`{GROUP}`"), "`another`", "up to 5", "`windows`"] {
                assert!(refused.to_string().contains(part), "{refused}");
            }
        } else {
            adopted.unwrap();
            register(harness, GROUP, MarkerMode::Rows).await.unwrap();
        }
    }
    // Of another log nobody needs to know.
    moved(harness, &held, 0, Some(NewLog::Another)).await;
    register(harness, "another", MarkerMode::Rows).await.unwrap();
}

pub async fn how_long_a_scope_keeps_what_is_packed_is_recorded<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let length = async || harness.store().window(&window(&held)).await.unwrap().length;
    let day = Duration::from_secs(24 * 3600);
    for (mode, given, expected) in [
        (MarkerMode::Rows, None, None),
        (MarkerMode::Packed, Some(day * 30), Some(day * 30)),
        (MarkerMode::Packed, Some(day), Some(day)),
        (MarkerMode::Rows, None, Some(day)),
        (MarkerMode::Packed, Some(Duration::MAX), Some(Duration::MAX)),
    ] {
        let windows: Vec<_> = given.into_iter().map(|length| (SCOPE, length)).collect();
        let scopes = [(SCOPE, mode)];
        let registration = Registration {
            group: GROUP,
            scopes: &scopes,
            windows: &windows,
            adopt: &[],
            retire: &[],
            broadcast: None,
        };
        harness.store().register(&registration).await.unwrap();
        // As long as it can be.
        assert_eq!(
            length().await.map(|it| it.min(day * 1000)),
            expected.map(|it| it.min(day * 1000))
        );
    }
}

pub async fn who_has_a_lane_is_told_that_a_scope_is_switched<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let held = held(harness).await;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    assert_eq!(again(harness, &held).await.revision, 0, "it was just opened, and stays so");
    let held = moved(harness, &held, 0, None).await;
    cut(harness, &held, 2).await;
    let [zero, one] = slices(harness, &held).await;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    assert_eq!(seal(harness, &zero, 1).await, Sealed::Yes, "nothing was switched");
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    assert_eq!(seal(harness, &one, 1).await, Sealed::No);
    assert!(!can_seal(harness, &held).await);
    let held = take(harness, 0).await.held();
    assert!(can_seal(harness, &held).await);
}

pub async fn a_scope_that_is_worked_in_another_form_was_switched_just_now<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let window = async || harness.store().window(&window(&held)).await.unwrap();
    let store = harness.store();
    for (recorded, other) in
        [(MarkerMode::Rows, MarkerMode::Packed), (MarkerMode::Packed, MarkerMode::Rows)]
    {
        store.note_mode(SCOPE, recorded).await.unwrap();
        register(harness, GROUP, recorded).await.unwrap();
        let before = window().await.switched;
        store.note_mode(SCOPE, recorded).await.unwrap();
        let after = window().await.switched;
        assert!(after.is_some() == before.is_some() && after >= before, "nothing changed");
        store.note_mode(SCOPE, other).await.unwrap();
        assert!(window().await.switched.unwrap() < Duration::from_secs(60));
        assert_eq!(window().await.mode, Some(recorded), "it is recorded as before");
    }
}

/// The claim of an attempt that is begun.
fn begun(key: &Key) -> Claim<'_> {
    let attempt = Some(Uuid::from_u128(7));
    Claim { state: MarkerState::Begun, attempt, ..plain(SCOPE, key) }
}

pub async fn a_call_without_kafka_is_refused_while_something_is_packed<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let held = held(harness).await;
    let held = pack(harness, &held, &[(1, digest(1))]).await;
    register(harness, GROUP, MarkerMode::Rows).await.unwrap();
    let store = harness.store();
    let refused = store.mark_processed(SCOPE, "e1", None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Scope);
    assert!(store.mark_processed("another", "e1", None).await.unwrap().is_processed());
    let (writer, keys) = (direct(), ["a", "b"].map(key));
    for claim in [plain(SCOPE, &keys[0]), begun(&keys[1])] {
        let mut tx = begin(harness, &writer).await;
        let refused = store.claim(&mut tx, &writer, &[claim]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Scope);
        store.rollback(tx).await;
    }
    // Who takes a marker over knows of it.
    let held = again(harness, &held).await;
    let lane = Writer::Lane(&held);
    let mut tx = begin(harness, &lane).await;
    let new = store.claim(&mut tx, &lane, &[begun(&keys[1])]).await.unwrap();
    assert_eq!(new, Claimed::Keys(vec![true]));
    finish(harness, tx, &lane, 2).await;
    let mut tx = begin(harness, &writer).await;
    let over = Claim { over: begun(&keys[1]).attempt, ..plain(SCOPE, &keys[1]) };
    let new = store.claim(&mut tx, &writer, &[over]).await.unwrap();
    assert_eq!(new, Claimed::Keys(vec![true]));
    finish(harness, tx, &writer, 0).await;
    let held = again(harness, &held).await;
    let all = ids(&rows(harness, &held).await);
    forget(harness, &held, &all, 2, false).await;
    assert!(store.mark_processed(SCOPE, "e1", None).await.unwrap().is_processed());
}
