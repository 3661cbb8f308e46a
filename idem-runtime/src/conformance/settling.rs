//! Cases: what people do with dead letters.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{LetterAction, LetterFilter, LetterState, NewLetter};
use crate::event::Headers;
use crate::store::{Edit, Settlement, Store as _, Writer};

pub async fn a_letter_is_locked_as_it_is<H: Harness>(harness: &H) {
    with_parked(harness, &[event(3, "k")]).await;
    let letter = only(harness).await;
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    let locked = harness.store().lock_letter(&mut tx, letter.id).await.unwrap().unwrap();
    assert_eq!((locked.id, locked.state), (letter.id, LetterState::Parked));
    assert_eq!((locked.cause, locked.event.payload), (letter.cause, letter.event.payload));
    assert!(harness.store().lock_letter(&mut tx, 1_000_000).await.unwrap().is_none());
    finish(harness, tx, &writer, 0).await;
    assert_eq!(states(harness).await, [(3, LetterState::Parked)]);
}

pub async fn a_settled_letter_says_how_it_was<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let cause = cause();
    let actions = [
        (LetterAction::Replayed, LetterState::Replayed),
        (LetterAction::Superseded, LetterState::Replayed),
        (LetterAction::Dropped, LetterState::Dropped),
        (LetterAction::ReplayFailed, LetterState::Dead),
    ];
    let events: Vec<_> = (0..4).map(|offset| event(offset, "k")).collect();
    let new: Vec<_> = events.iter().map(|event| dead(event, &cause)).collect();
    give_up(harness, &held, &new).await;
    for (letter, (action, state)) in letters(harness).await.iter().zip(actions) {
        settle(harness, letter.id, &settlement(action)).await;
        let after = at(harness, letter.event.offset).await;
        assert_eq!(after.state, state, "{action:?}");
        assert_eq!((after.edited, after.cause), (false, Some(cause.clone())));
        let notes = harness.store().history(letter.id).await.unwrap();
        assert_eq!(notes.iter().map(|it| it.action).collect::<Vec<_>>(), [action]);
    }
}

pub async fn the_history_of_a_letter_is_told_in_order<H: Harness>(harness: &H) {
    with_parked(harness, &[event(3, "k"), event(4, "j")]).await;
    let id = at(harness, 3).await.id;
    let by = |by, action, note| Settlement { by, note, ..settlement(action) };
    let edit = Some(Edit { payload: Some(Some(b"{}")), ..Edit::default() });
    let edit = Settlement { edit, ..by("bob", LetterAction::Edited, None) };
    let failed = by("ann 'ü'", LetterAction::ReplayFailed, Some("still \"declined\"\n\\"));
    settle(harness, id, &failed).await;
    settle(harness, id, &edit).await;
    settle(harness, id, &by("bob", LetterAction::Replayed, Some(""))).await;
    let notes = harness.store().history(id).await.unwrap();
    let told: Vec<_> = notes.iter().map(|it| (it.action, &*it.by, it.note.as_deref())).collect();
    let expected = [
        (LetterAction::ReplayFailed, "ann 'ü'", failed.note),
        (LetterAction::Edited, "bob", None),
        (LetterAction::Replayed, "bob", Some("")),
    ];
    assert_eq!(told, expected);
    let now = std::time::SystemTime::now();
    assert!(notes.is_sorted_by_key(|it| it.at));
    assert!(notes.iter().all(|it| it.at > now - AN_HOUR && it.at < now + AN_HOUR));
    for other in [at(harness, 4).await.id, 1_000_000] {
        assert_eq!(harness.store().history(other).await.unwrap(), []);
    }
}

pub async fn what_is_rolled_back_settles_nothing<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(3, "k")]).await;
    let id = only(harness).await.id;
    let mut tx = begin(harness, &direct()).await;
    harness.store().lock_letter(&mut tx, id).await.unwrap();
    let dropped = settlement(LetterAction::Dropped);
    harness.store().settle_letter(&mut tx, id, &dropped).await.unwrap();
    assert!(harness.store().rollback(tx).await);
    assert_eq!(states(harness).await, [(3, LetterState::Parked)]);
    assert_eq!(harness.store().history(id).await.unwrap(), []);
    assert_eq!(behind(harness, &held, "k").await, Some(0));
}

pub async fn an_edited_letter_has_its_new_payload<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(3, "k")]).await;
    let id = only(harness).await.id;
    let edits: [Option<&[u8]>; 4] = [Some(b"\0\xff{}"), None, Some(b""), Some(b"last")];
    for payload in edits {
        edit(harness, id, Edit { payload: Some(payload), ..Edit::default() }).await;
        let letter = only(harness).await;
        assert!(letter.edited);
        assert_eq!(letter.digest, event(3, "k").digest(), "of the event as it came");
        assert_eq!(letter.event.payload.as_deref(), payload);
        assert_eq!(letter.event.message_key.as_deref(), Some(&b"k"[..]));
        assert_eq!(letter.state, LetterState::Parked);
        let mut tx = begin(harness, &direct()).await;
        let locked = harness.store().lock_letter(&mut tx, id).await.unwrap().unwrap();
        assert!(locked.edited);
        assert_eq!(locked.event.payload.as_deref(), payload);
        harness.store().rollback(tx).await;
    }
    // It is still the event that it was.
    give_up(harness, &held, &[parked(&event(3, "k"), &cause())]).await;
    assert_eq!(only(harness).await.event.payload.as_deref(), Some(&b"last"[..]));
    settle(harness, id, &settlement(LetterAction::ReplayFailed)).await;
    assert!(only(harness).await.edited);
}

/// The headers, payload and message key of the only letter's event, listed and locked.
async fn shown<H: Harness>(harness: &H) -> (Vec<(String, Option<Vec<u8>>)>, [Option<Vec<u8>>; 2]) {
    let letter = only(harness).await;
    let mut tx = begin(harness, &direct()).await;
    let locked = harness.store().lock_letter(&mut tx, letter.id).await.unwrap().unwrap();
    harness.store().rollback(tx).await;
    let [shown, locked] = [letter, locked].map(|letter| {
        assert!(letter.edited);
        let headers = letter.event.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        let rest = [letter.event.payload, letter.event.message_key];
        (headers.collect::<Vec<_>>(), rest.map(|it| it.map(|bytes| bytes.to_vec())))
    });
    assert_eq!(shown, locked);
    shown
}

pub async fn an_edited_letter_has_its_new_headers_and_message_key<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let mut event = event(3, "k");
    event.headers = [("id", None), ("trace", Some("t"))].into_iter().collect();
    give_up(harness, &held, &[dead(&event, &cause())]).await;
    let id = only(harness).await.id;
    let payload = Some(b"payload 3".to_vec());

    let headers: Headers = [("id", Some(&b"\0\xff"[..])), ("id", None), ("quote \" \\", Some(b""))]
        .into_iter()
        .collect();
    edit(harness, id, Edit { headers: Some(&headers), ..Edit::default() }).await;
    let expected: Vec<_> = vec![
        ("id".to_owned(), Some(b"\0\xff".to_vec())),
        ("id".to_owned(), None),
        ("quote \" \\".to_owned(), Some(Vec::new())),
    ];
    let key = Some(b"k".to_vec());
    assert_eq!(shown(harness).await, (expected.clone(), [payload.clone(), key]));
    // It is found by what it has now.
    for (value, found) in [(&b""[..], 1), (b"t", 0)] {
        let name = if found == 1 { "quote \" \\" } else { "trace" };
        let filter = LetterFilter::new().header(name, value);
        assert_eq!(harness.store().letters(&filter).await.unwrap().len(), found);
    }

    // What an edit does not name stays as it was edited.
    for message_key in [Some(&b"\0j"[..]), Some(b""), None] {
        edit(harness, id, Edit { message_key: Some(message_key), ..Edit::default() }).await;
        let message_key = message_key.map(<[u8]>::to_vec);
        assert_eq!(shown(harness).await, (expected.clone(), [payload.clone(), message_key]));
    }
    edit(harness, id, Edit { payload: Some(None), ..Edit::default() }).await;
    assert_eq!(shown(harness).await, (expected, [None, None]));
    edit(harness, id, Edit { headers: Some(&Headers::default()), ..Edit::default() }).await;
    assert_eq!(shown(harness).await, (Vec::new(), [None, None]));
    settle(harness, id, &settlement(LetterAction::ReplayFailed)).await;
    assert_eq!(shown(harness).await, (Vec::new(), [None, None]));

    // It is still the event that it was.
    assert_eq!(only(harness).await.digest, event.digest());
    let held = row(harness, &held).await.held();
    give_up(harness, &held, &[dead(&event, &cause())]).await;
    assert_eq!(shown(harness).await, (Vec::new(), [None, None]));
}

pub async fn a_letter_that_is_opened_again_has_the_message_key_of_its_event<H: Harness>(
    harness: &H,
) {
    let held = held(harness).await;
    let (event, key, cause) = (event(3, "k"), key("e1"), cause());
    let letter = NewLetter { key: Some(&key), ..dead(&event, &cause) };
    let held = give_up(harness, &held, &[letter]).await;
    let id = only(harness).await.id;
    let headers: Headers = [("id", Some("e1"))].into_iter().collect();
    let other = Edit { message_key: Some(Some(b"j")), headers: Some(&headers), payload: None };
    edit(harness, id, other).await;
    settle(harness, id, &settlement(LetterAction::Dropped)).await;
    let parked = NewLetter { key: Some(&key), ..parked(&event, &cause) };
    let held = give_up(harness, &held, &[parked]).await;
    let letter = only(harness).await;
    assert_eq!(letter.state, LetterState::Parked);
    assert_eq!(letter.event.message_key.as_deref(), Some(&b"k"[..]), "by which it is parked");
    assert_eq!(letter.event.headers.get("id"), Some(&b"e1"[..]));
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    assert_eq!(behind(harness, &held, "j").await, None);
}

pub async fn an_edited_message_key_is_in_no_line<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(3, "k")]).await;
    let held = give_up(harness, &held, &[waiting(&event(4, "k"))]).await;
    for offset in [3, 4] {
        let id = at(harness, offset).await.id;
        edit(harness, id, Edit { message_key: Some(Some(b"j")), ..Edit::default() }).await;
    }
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    assert_eq!(behind(harness, &held, "j").await, None);
    settle_at(harness, 4, LetterAction::Dropped).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0), "its line is the one it was in");
    settle_at(harness, 3, LetterAction::Replayed).await;
    assert_eq!(behind(harness, &held, "k").await, None);
}

pub async fn of_two_who_settle_a_letter_the_second_sees_it_settled<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(3, "k")]).await;
    give_up(harness, &held, &[dead(&event(4, "k"), &cause())]).await;
    for letter in letters(harness).await {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        harness.store().lock_letter(&mut tx, letter.id).await.unwrap().unwrap();
        let replayed = settlement(LetterAction::Replayed);
        harness.store().settle_letter(&mut tx, letter.id, &replayed).await.unwrap();
        let second = async {
            let mut tx = begin(harness, &direct()).await;
            let letter = harness.store().lock_letter(&mut tx, letter.id).await.unwrap().unwrap();
            assert_eq!(letter.state, LetterState::Replayed);
            tx
        };
        let second = while_open(harness, tx, &writer, second).await;
        harness.store().rollback(second).await;
    }
}

pub async fn a_replay_is_committed_with_its_marker_and_effects<H: Harness>(harness: &H) {
    with_parked(harness, &[event(3, "k")]).await;
    let id = only(harness).await.id;
    for keep in [false, true] {
        let writer = direct();
        let mut tx = begin(harness, &writer).await;
        harness.store().lock_letter(&mut tx, id).await.unwrap();
        assert!(is_new(harness, &mut tx, &writer, "e1").await);
        write::<H>(&mut tx, "e1").await;
        let replayed = settlement(LetterAction::Replayed);
        harness.store().settle_letter(&mut tx, id, &replayed).await.unwrap();
        if keep {
            finish(harness, tx, &writer, 0).await;
        } else {
            harness.store().rollback(tx).await;
            assert_untouched(harness, "e1").await;
            assert_eq!(only(harness).await.state, LetterState::Parked);
        }
    }
    assert!(is_marked(harness, "e1").await);
    assert_eq!(effects(harness).await, ["e1"]);
    assert_eq!(only(harness).await.state, LetterState::Replayed);
}

pub async fn a_settled_letter_stays_settled<H: Harness>(harness: &H) {
    let events = [event(3, "a"), event(4, "b"), event(5, "c")];
    let mut held = with_parked(harness, &events).await;
    let actions = [LetterAction::Replayed, LetterAction::Dropped, LetterAction::Superseded];
    for (letter, action) in letters(harness).await.iter().zip(actions) {
        settle(harness, letter.id, &settlement(action)).await;
    }
    let before = states(harness).await;
    let cause = cause();
    for event in &events {
        // A rewind delivers it once more.
        held = give_up(harness, &held, &[parked(event, &cause)]).await;
        held = give_up(harness, &held, &[dead(event, &cause)]).await;
    }
    assert_eq!(states(harness).await, before);
    for key in ["a", "b", "c"] {
        assert_eq!(behind(harness, &held, key).await, None, "nobody would release it");
    }
}

pub async fn a_lane_can_settle_in_its_own_batch<H: Harness>(harness: &H) {
    let held = with_parked(harness, &[event(3, "k")]).await;
    let id = only(harness).await.id;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().lock_letter(&mut tx, id).await.unwrap();
    let replayed = settlement(LetterAction::Replayed);
    harness.store().settle_letter(&mut tx, id, &replayed).await.unwrap();
    finish(harness, tx, &writer, 9).await;
    assert_eq!(only(harness).await.state, LetterState::Replayed);
}
