//! Cases: looking through dead letters.

use super::Harness;
use super::failures::*;
use super::support::*;
use crate::dead_letter::{Cause, DeadLetter, FailureClass, LetterFilter, LetterState, NewLetter};
use crate::event::Event;
use crate::lane::{LaneId, Position};
use crate::store::{Opening, Store as _, Writer};

async fn found<H: Harness>(harness: &H, filter: LetterFilter) -> Vec<i64> {
    ids(&harness.store().letters(&filter).await.unwrap())
}

/// Letters that differ in what a filter asks for: of offsets 0 to 5, in this order.
async fn different<H: Harness>(harness: &H) -> Vec<DeadLetter> {
    let held = held(harness).await;
    let handler = cause();
    let again = Cause { error: "the other card was declined".to_owned(), ..cause() };
    let timeout = Cause { class: FailureClass::Timeout, ..cause() };
    let events: Vec<_> = (0..6).map(|offset| event(offset, "k")).collect();
    let last = key("e5");
    let new = [
        dead(&events[0], &handler),
        NewLetter { scope: "other", ..dead(&events[1], &handler) },
        dead(&events[2], &timeout),
        parked(&events[3], &again),
        waiting(&events[4]),
        NewLetter { key: Some(&last), ..dead(&events[5], &again) },
    ];
    give_up(harness, &held, &new).await;
    let letters = letters(harness).await;
    assert_eq!(offsets(&letters), [0, 1, 2, 3, 4, 5]);
    letters
}

pub async fn letters_are_found_by_what_they_are<H: Harness>(harness: &H) {
    let all = different(harness).await;
    let of = |offsets: &[usize]| offsets.iter().map(|it| all[*it].id).collect::<Vec<_>>();
    let any = LetterFilter::new;
    assert_eq!(found(harness, any()).await, ids(&all));
    assert_eq!(found(harness, any().scope("other")).await, of(&[1]));
    assert_eq!(found(harness, any().scope("Other")).await, of(&[]));
    assert_eq!(found(harness, any().key("e5")).await, of(&[5]));
    assert_eq!(found(harness, any().key("e0")).await, of(&[]));
    assert_eq!(found(harness, any().topic(TOPIC)).await, ids(&all));
    assert_eq!(found(harness, any().topic("another")).await, of(&[]));
    assert_eq!(found(harness, any().state(LetterState::Dead)).await, of(&[0, 1, 2, 5]));
    assert_eq!(found(harness, any().state(LetterState::Parked)).await, of(&[3]));
    assert_eq!(found(harness, any().state(LetterState::Waiting)).await, of(&[4]));
    assert_eq!(found(harness, any().state(LetterState::Dropped)).await, of(&[]));
    assert_eq!(found(harness, any().class(FailureClass::Timeout)).await, of(&[2]));
    assert_eq!(found(harness, any().class(FailureClass::Crash)).await, of(&[]));
    let fingerprint = all[3].fingerprint.as_str();
    assert_eq!(found(harness, any().fingerprint(fingerprint)).await, of(&[3, 5]));
    let several = any().scope(SCOPE).state(LetterState::Dead).class(FailureClass::Handler);
    assert_eq!(found(harness, several).await, of(&[0, 5]));
}

pub async fn letters_are_found_by_a_header_of_their_event<H: Harness>(harness: &H) {
    let held = held(harness).await;
    let cause = cause();
    let with = |offset, headers: &[(&str, Option<&str>)]| {
        let headers = headers.iter().map(|(name, value)| (*name, value.map(str::to_owned)));
        Event { headers: headers.collect(), ..event(offset, "k") }
    };
    let events = [
        with(0, &[("correlation-id", Some("c-1")), ("x", Some("c-2"))]),
        with(1, &[("correlation-id", Some("c-2"))]),
        with(2, &[]),
        // The last one counts, as everywhere.
        with(3, &[("correlation-id", Some("c-1")), ("correlation-id", Some("c-2"))]),
        with(4, &[("correlation-id", None)]),
        with(5, &[("correlation-id", Some(""))]),
    ];
    let new: Vec<_> = events.iter().map(|event| dead(event, &cause)).collect();
    give_up(harness, &held, &new).await;
    let all = ids(&letters(harness).await);
    let of = |offsets: &[usize]| offsets.iter().map(|it| all[*it]).collect::<Vec<_>>();
    let any = LetterFilter::new;
    assert_eq!(found(harness, any().correlation_id("c-1")).await, of(&[0]));
    assert_eq!(found(harness, any().correlation_id("c-2")).await, of(&[1, 3]));
    assert_eq!(found(harness, any().correlation_id("C-1")).await, of(&[]));
    assert_eq!(found(harness, any().correlation_id("")).await, of(&[5]));
    assert_eq!(found(harness, any().header("x", "c-2")).await, of(&[0]));
    assert_eq!(found(harness, any().header("X", "c-2")).await, of(&[]));
    let binary = any().header("x", [0, 255]);
    assert_eq!(found(harness, binary).await, of(&[]));
    assert_eq!(found(harness, any().scope("other").correlation_id("c-1")).await, of(&[]));
}

pub async fn letters_are_found_by_their_numbers<H: Harness>(harness: &H) {
    let all = ids(&different(harness).await);
    assert_eq!(found(harness, LetterFilter::id(all[2])).await, [all[2]]);
    let with = |ids: &[i64]| LetterFilter { ids: Some(ids.to_vec()), ..LetterFilter::new() };
    let unsorted = with(&[all[4], all[1], all[4], 1_000_000]);
    assert_eq!(found(harness, unsorted).await, [all[1], all[4]]);
    assert_eq!(found(harness, with(&[])).await, NONE);
}

pub async fn letters_are_found_page_by_page<H: Harness>(harness: &H) {
    let all = ids(&different(harness).await);
    let page = async |after: Option<i64>| {
        found(harness, LetterFilter { after, ..LetterFilter::new().limit(4) }).await
    };
    assert_eq!(page(None).await, all[..4]);
    assert_eq!(page(Some(all[3])).await, all[4..]);
    assert_eq!(page(Some(all[5])).await, NONE);
    assert_eq!(found(harness, LetterFilter::new().limit(0)).await, NONE);
}

pub async fn letters_are_found_by_when_they_were_written<H: Harness>(harness: &H) {
    let all = different(harness).await;
    let first = all.iter().map(|it| it.written_at).min().unwrap();
    let last = all.iter().map(|it| it.written_at).max().unwrap();
    let any = LetterFilter::new;
    assert_eq!(found(harness, any().since(first)).await, ids(&all));
    assert_eq!(found(harness, any().until(first)).await, NONE);
    assert_eq!(found(harness, any().until(last + AN_HOUR)).await, ids(&all));
    assert_eq!(found(harness, any().since(last + AN_HOUR)).await, NONE);
    let all = ids(&all);
    assert_eq!(found(harness, any().since(first - AN_HOUR).until(last + AN_HOUR)).await, all);
}

pub async fn letters_of_another_group_and_topic_name_them<H: Harness>(harness: &H) {
    let (group, topic) = ("audit", "payments");
    let (identity, lanes) = (log("log"), [(2, Position::at(0))]);
    let opening = Opening { group, topic, identity: &identity, lanes: &lanes };
    harness.store().open_topic(&opening).await.unwrap();
    let id = LaneId { group: group.into(), topic: topic.into(), partition: 2 };
    let held = harness.store().take(&id, &owner("a")).await.unwrap().unwrap().held();
    let mut event = event(7, "k");
    event.topic = topic.into();
    event.partition = 2;
    let cause = cause();
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    harness.store().give_up(&mut tx, &held, &[dead(&event, &cause)]).await.unwrap();
    finish(harness, tx, &writer, 8).await;
    let letter = only(harness).await;
    assert_eq!((letter.group.as_str(), &*letter.event.topic), (group, topic));
    assert_eq!((letter.event.partition, letter.event.offset), (2, 7));
    assert_eq!(found(harness, LetterFilter::new().topic(topic)).await, [letter.id]);
    assert_eq!(found(harness, LetterFilter::new().topic(TOPIC)).await, NONE);
}
