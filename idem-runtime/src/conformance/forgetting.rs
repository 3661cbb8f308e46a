//! Cases: forgetting a key, and packing one from outside of its lane.

use super::Harness;
use super::failures::{
    at, behind, cause, dead, event, letters, only, parked, settle, settlement, waiting,
};
use super::packing::*;
use super::slicing::divided;
use super::support::*;
use crate::dead_letter::{Cause, FailureClass, LetterAction, LetterState, NewLetter};
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lane::Held;
use crate::marker::{MarkerMode, MarkerState};
use crate::store::PackedMarkers as _;
use crate::store::RELOAD;
use crate::store::{Claim, Store as _, Writer};

async fn forget<H: Harness>(harness: &H, text: &str) -> Result<bool, Error> {
    harness.store().forget_marker(SCOPE, &key(text)).await
}

/// Gives an event up under its key, which is claimed for that, and packed.
async fn give_up<H: Harness>(harness: &H, held: &Held, name: &str, letter: &NewLetter<'_>) -> Held {
    let name = key(name);
    let writer = Writer::Lane(held);
    let mut tx = begin(harness, &writer).await;
    let state = match letter.state {
        LetterState::Dead => MarkerState::Dead,
        _ => MarkerState::Parked,
    };
    let claim = Claim { state, offset: Some(letter.event.offset), ..plain(SCOPE, &name) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    let letter = NewLetter { key: Some(&name), ..letter.clone() };
    harness.store().give_up(&mut tx, held, &[letter]).await.unwrap();
    finish(harness, tx, &writer, held.position.offset + 1).await;
    again(harness, held).await
}

/// Works a letter after all: its marker says processed, and the letter is settled.
async fn replay<H: Harness>(harness: &H, id: i64, name: &Key, action: LetterAction) {
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    harness.store().lock_letter(&mut tx, id).await.unwrap();
    let claim = Claim { reclaim: true, ..plain(SCOPE, name) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    harness.store().settle_letter(&mut tx, id, &settlement(action)).await.unwrap();
    finish(harness, tx, &writer, 0).await;
}

pub async fn a_marker_that_is_forgotten_is_new_again<H: Harness>(harness: &H) {
    let held = held(harness).await;
    batch(harness, &held, "e1", 1).await;
    let held = again(harness, &held).await;
    assert!(!forget(harness, "e2").await.unwrap(), "there is no such key");
    assert!(!harness.store().forget_marker("another", &key("e1")).await.unwrap());
    assert!(forget(harness, "e1").await.unwrap());
    assert!(!forget(harness, "e1").await.unwrap());
    assert!(!harness.store().is_processed(SCOPE, "e1").await.unwrap());
    // The lane of a marker that is a row knows nothing of it.
    batch(harness, &held, "e1", 2).await;
}

pub async fn a_packed_key_that_is_forgotten_is_in_no_row_any_more<H: Harness>(harness: &H) {
    // As many as its rows say that the topic has: they are of no former layout.
    open(harness, &(0..PARTITIONS).collect::<Vec<_>>()).await;
    let (held, other) = (take(harness, 0).await.held(), take(harness, 1).await.held());
    let digest_e = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, digest(1)), (2, digest_e), (3, digest(3))]).await;
    let held = pack(harness, &held, &[(4, digest(4))]).await;
    let before = rows(harness, &held).await;
    assert!(forget(harness, "e1").await.unwrap());
    assert!(!harness.store().is_processed(SCOPE, "e1").await.unwrap());
    let after = rows(harness, &held).await;
    assert_eq!(entries(&after), [(4, digest(4)), (1, digest(1)), (3, digest(3))]);
    assert_eq!(after[0], before[1]);
    // Under a number that nobody knows, and otherwise what it was.
    assert!(after[1].id > before[1].id);
    assert_eq!((after[1].count, after[1].first_offset, after[1].last_offset), (2, 1, 3));
    assert_eq!((after[1].first_at, after[1].last_at), (before[0].first_at, before[0].last_at));
    assert!(!merge(harness, &held, &before).await, "who has the former rows in mind is late");
    // The owner finds itself ahead, and keeps its token.
    assert!(!can_seal(harness, &held).await);
    let now = again(harness, &held).await;
    assert_eq!((now.token, now.revision), (held.token, held.revision + RELOAD));
    assert!(can_seal(harness, &now).await);
    assert!(can_seal(harness, &other).await, "another lane does not have it");
    assert!(!forget(harness, "e1").await.unwrap());
}

pub async fn slices_of_a_forgotten_key_are_taken_again<H: Harness>(harness: &H) {
    let (whole, [zero, one]) = divided(harness).await;
    let digest = digest_of(harness, "e1").await;
    let zero = pack(harness, &zero, &[(1, digest)]).await;
    assert!(forget(harness, "e1").await.unwrap());
    for held in [&whole, &zero, &one] {
        assert!(!can_seal(harness, held).await);
        let now = again(harness, held).await;
        assert_eq!(now.revision, held.revision + RELOAD);
        assert!(can_seal(harness, &now).await);
    }
    assert!(rows(harness, &zero).await.is_empty(), "the last of a row takes the row with it");
}

pub async fn a_key_is_forgotten_in_its_run<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, wanted), (2, digest(2))]).await;
    let held = pack(harness, &held, &[(3, digest(3))]).await;
    let both = ids(&rows(harness, &held).await);
    let mut digests: Vec<_> = (2..300).map(digest).collect();
    digests.push(wanted);
    let run = add_run(harness, &held, &both, digests).await.unwrap();
    assert!(forget(harness, "e1").await.unwrap());
    let held = again(harness, &held).await;
    let runs = harness.store().runs(&window(&held), &[], 100).await.unwrap();
    assert_eq!((runs.len(), runs[0].id, runs[0].count), (1, run, 298));
    let mut asked: Vec<_> = (2..300).map(digest).collect();
    asked.push(wanted);
    let known = in_runs(harness, &held, &[run], &asked).await.unwrap();
    assert!(known[..298].iter().all(|known| *known) && !known[298]);
    assert!(rows(harness, &held).await.is_empty(), "what is left is in the run as before");
    let found = harness.store().find_packed(SCOPE, digest(2)).await.unwrap();
    assert_eq!((found[0].1.run, found[0].1.count), (Some(run), 1));
}

pub async fn a_key_is_forgotten_in_a_run_whose_row_with_it_is_gone<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, wanted)]).await;
    let held = pack(harness, &held, &[(2, digest(2))]).await;
    let both = ids(&rows(harness, &held).await);
    let run = add_run(harness, &held, &both, vec![wanted, digest(2)]).await.unwrap();
    assert!(harness.store().forget_packs(&held, SCOPE, &both[..1], None).await.unwrap());
    assert_eq!(in_runs(harness, &held, &[run], &[wanted]).await.unwrap(), [true]);
    assert!(forget(harness, "e1").await.unwrap());
    assert!(!can_seal(harness, &held).await, "whoever has the lane looks again");
    let held = again(harness, &held).await;
    assert_eq!(in_runs(harness, &held, &[run], &[wanted, digest(2)]).await.unwrap(), [false, true]);
    assert!(!forget(harness, "e1").await.unwrap());
}

pub async fn a_run_goes_with_the_last_key_of_its_last_row<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let wanted = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, wanted)]).await;
    let row = ids(&rows(harness, &held).await);
    add_run(harness, &held, &row, vec![wanted]).await.unwrap();
    assert!(forget(harness, "e1").await.unwrap());
    assert!(harness.store().runs(&window(&held), &[], 100).await.unwrap().is_empty());
    assert!(harness.store().find_packed(SCOPE, wanted).await.unwrap().is_empty());
}

pub async fn a_key_that_lanes_keep_in_two_forms_is_forgotten_in_both<H: Harness>(harness: &H) {
    register(harness, GROUP, MarkerMode::Packed).await.unwrap();
    let held = held(harness).await;
    let (event, cause, name) = (event(1, "k"), cause(), key("e1"));
    let held = give_up(harness, &held, "e1", &dead(&event, &cause)).await;
    let wanted = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, wanted)]).await;
    replay(harness, only(harness).await.id, &name, LetterAction::Replayed).await;
    assert!(forget(harness, "e1").await.unwrap());
    assert_eq!(harness.store().find_marker(SCOPE, &name).await.unwrap(), None);
    assert!(!can_seal(harness, &held).await);

    // The lane has it in mind for ever, also when its row of digests was forgotten.
    let held = again(harness, &held).await;
    let held = give_up(harness, &held, "e1", &dead(&event, &cause)).await;
    replay(harness, only(harness).await.id, &name, LetterAction::Replayed).await;
    assert!(can_seal(harness, &held).await);
    assert!(forget(harness, "e1").await.unwrap());
    assert!(!can_seal(harness, &held).await);
}

pub async fn a_key_with_an_open_letter_is_not_forgotten<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let cause = cause();
    let wanted = digest_of(harness, "e1").await;
    let held = pack(harness, &held, &[(1, wanted)]).await;
    let events = [event(1, "k"), event(2, "k"), event(3, "k")];
    let held = give_up(harness, &held, "e1", &dead(&events[0], &cause)).await;
    let held = give_up(harness, &held, "e2", &parked(&events[1], &cause)).await;
    let held = give_up(harness, &held, "e3", &waiting(&events[2])).await;
    for name in ["e1", "e2", "e3"] {
        let refused = forget(harness, name).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::GivenUp);
        assert!(refused.to_string().contains(name), "{refused}");
    }
    assert!(is_marked(harness, "e1").await);
    assert_eq!(rows(harness, &held).await.len(), 1);
    assert!(can_seal(harness, &held).await, "nothing has happened");
    // Once they are settled they are, though the marker of what was dropped says that it is dead.
    replay(harness, at(harness, 1).await.id, &key("e1"), LetterAction::Replayed).await;
    assert!(forget(harness, "e1").await.unwrap());
    settle(harness, at(harness, 2).await.id, &settlement(LetterAction::Dropped)).await;
    assert!(forget(harness, "e2").await.unwrap());
    assert!(!is_marked(harness, "e2").await);

    // A correction, of a key that was processed.
    let correction = Cause { class: FailureClass::Correction, ..cause };
    let held = again(harness, &held).await;
    batch(harness, &held, "e5", 5).await;
    let held = again(harness, &held).await;
    let name = key("e5");
    let event = event(5, "k");
    let letter = NewLetter { key: Some(&name), ..dead(&event, &correction) };
    super::failures::give_up(harness, &held, &[letter]).await;
    assert_eq!(forget(harness, "e5").await.unwrap_err().kind(), ErrorKind::GivenUp);
    settle(harness, at(harness, 5).await.id, &settlement(LetterAction::Dropped)).await;
    assert!(forget(harness, "e5").await.unwrap());
}

pub async fn a_key_whose_attempt_was_begun_is_not_forgotten<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let name = key("e1");
    let claim = Claim { state: MarkerState::Begun, offset: Some(1), ..plain(SCOPE, &name) };
    harness.store().claim(&mut tx, &writer, &[claim]).await.unwrap();
    finish(harness, tx, &writer, 1).await;
    assert_eq!(forget(harness, "e1").await.unwrap_err().kind(), ErrorKind::GivenUp);
    assert!(is_marked(harness, "e1").await);
}

pub async fn a_settled_letter_is_opened_again_when_its_key_was_forgotten<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    let event = event(1, "k");
    let first = cause();
    let again = Cause { error: "the card has expired".to_owned(), attempts: 7, ..cause() };
    held = give_up(harness, &held, "e1", &parked(&event, &first)).await;
    let id = only(harness).await.id;
    harness.store().forwarded(&[id]).await.unwrap();
    let expected = [
        (parked(&event, &again), Some(0)),
        (dead(&event, &again), None),
        (parked(&event, &again), Some(0)),
    ];
    for (letter, line) in expected {
        replay(harness, id, &key("e1"), LetterAction::Replayed).await;
        assert_eq!(only(harness).await.state, LetterState::Replayed);
        assert_eq!(behind(harness, &held, "k").await, None);
        assert!(forget(harness, "e1").await.unwrap());
        held = give_up(harness, &held, "e1", &letter).await;
        let open = only(harness).await;
        assert_eq!((open.id, open.state, open.cause.as_ref()), (id, letter.state, Some(&again)));
        assert_eq!(open.fingerprint, again.fingerprint(SCOPE));
        assert_eq!(behind(harness, &held, "k").await, line);
        let forwarded = harness.store().unforwarded(&[held.number], 9).await.unwrap();
        assert_eq!(forwarded.len(), 1, "as what it is now");
    }
    let history = harness.store().history(id).await.unwrap();
    let actions: Vec<_> = history.iter().map(|note| note.action).collect();
    assert_eq!(actions, [LetterAction::Replayed, LetterAction::Reopened].repeat(3));
    assert!(history[1].note.as_ref().is_some_and(|note| note.contains("forgotten")));
}

pub async fn an_event_that_comes_again_can_wait_again<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    let (head, event, cause) = (event(1, "k"), event(2, "k"), cause());
    held = give_up(harness, &held, "e1", &parked(&head, &cause)).await;
    held = give_up(harness, &held, "e2", &waiting(&event)).await;
    assert_eq!(behind(harness, &held, "k").await, Some(1));
    let id = at(harness, 2).await.id;
    replay(harness, id, &key("e2"), LetterAction::Replayed).await;
    assert_eq!(behind(harness, &held, "k").await, Some(0));
    assert!(forget(harness, "e2").await.unwrap());
    held = give_up(harness, &held, "e2", &waiting(&event)).await;
    let letter = at(harness, 2).await;
    assert_eq!((letter.id, letter.state, letter.cause), (id, LetterState::Waiting, None));
    assert_eq!(behind(harness, &held, "k").await, Some(1));
}

pub async fn what_was_not_new_opens_no_letter_again<H: Harness>(harness: &H) {
    let mut held = held(harness).await;
    let (name, events) = (key("e1"), [event(1, "a"), event(2, "b"), event(3, "c")]);
    let classes = [FailureClass::Correction, FailureClass::KeyReuse];
    let causes = classes.map(|class| Cause { class, ..cause() });
    for _ in 0..2 {
        for (event, cause) in events.iter().zip(&causes) {
            let letter = NewLetter { key: Some(&name), ..dead(event, cause) };
            held = super::failures::give_up(harness, &held, &[letter]).await;
        }
        // Without a key nobody can have forgotten it.
        let unkeyed = cause();
        held = super::failures::give_up(harness, &held, &[dead(&events[2], &unkeyed)]).await;
        for letter in letters(harness).await {
            if letter.state == LetterState::Dead {
                settle(harness, letter.id, &settlement(LetterAction::Dropped)).await;
            }
            assert_eq!(harness.store().history(letter.id).await.unwrap().len(), 1);
        }
    }
    assert_eq!(letters(harness).await.len(), 3);
}

pub async fn a_key_from_outside_is_packed_and_its_lane_taken_again<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let held = pack(harness, &held, &[(1, digest(1))]).await;
    // Rolled back it leaves nothing.
    let mut tx = begin(harness, &direct()).await;
    assert!(pack_direct_in(harness, &mut tx, &held, 4, digest(4)).await.unwrap());
    harness.store().rollback(tx).await;
    assert_eq!(rows(harness, &held).await.len(), 1);
    assert!(can_seal(harness, &held).await);

    assert!(pack_direct(harness, &held, 4, digest(4)).await);
    assert!(!can_seal(harness, &held).await);
    let held = again(harness, &held).await;
    assert_eq!(entries(&rows(harness, &held).await), [(1, digest(1)), (4, digest(4))]);
    // What is known is not packed again, whoever has packed it; in a run, too.
    assert!(!pack_direct(harness, &held, 4, digest(4)).await);
    assert!(!pack_direct(harness, &held, 1, digest(1)).await);
    let held = again(harness, &held).await;
    let row = rows(harness, &held).await[0].id;
    assert!(add_run(harness, &held, &[row], vec![digest(1)]).await.is_some());
    assert!(!pack_direct(harness, &held, 1, digest(1)).await);
    assert_eq!(rows(harness, &held).await.len(), 1);
}

pub async fn a_key_from_outside_waits_for_the_batch_that_is_sealed<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let pair = [(1, digest(1))];
    let data = encoded(&pair);
    let writer = Writer::Lane(&held);
    let mut tx = packed(harness, &held, &[new(SCOPE, &pair, &data)]).await;
    if !H::ONE_WRITER {
        // Sealed before it is asked for: whoever asks waits for it, and sees what it has packed.
        let position = to(held.position.offset + 1);
        harness.store().seal(&mut tx, &writer, Some(&position)).await.unwrap();
    }
    let second = async {
        let outside = direct();
        let mut tx = begin(harness, &outside).await;
        let is_new = pack_direct_in(harness, &mut tx, &held, 1, digest(1)).await.unwrap();
        harness.store().rollback(tx).await;
        is_new
    };
    let first = async {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        let position = to(held.position.offset + 1);
        if H::ONE_WRITER {
            harness.store().seal(&mut tx, &writer, Some(&position)).await.unwrap();
        }
        harness.store().commit(tx).await.unwrap();
    };
    let (is_new, ()) = tokio::join!(second, first);
    assert!(!is_new);
}

pub async fn a_key_from_outside_is_guarded<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let writer = direct();
    let mut tx = begin(harness, &writer).await;
    assert!(pack_direct_in(harness, &mut tx, &held, 4, digest(4)).await.unwrap());
    write::<H>(&mut tx, "effect").await;
    assert!(harness.store().commit(tx).await.is_err(), "it was not sealed");
    assert!(rows(harness, &held).await.is_empty());
    assert!(effects(harness).await.is_empty());
}
