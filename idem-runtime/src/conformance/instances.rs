//! Cases: instances of groups that read everything in each instance.

use std::time::Duration;

use super::Harness;
use super::failures::{cause, dead, event};
use super::support::{AN_HOUR, TOPIC, begin, key, log, owner, plain};
use crate::dead_letter::{LetterFilter, NewLetter};
use crate::error::{ErrorKind, Result};
use crate::lane::{Held, LaneId, Position};
use crate::marker::MarkerMode;
use crate::scope::Registration;
use crate::store::{Claimed, Instance, Opening, Seal, Sealed, Store as _, Writer};

/// Notes that an instance is alive; answers whom it forgot.
async fn keep<H: Harness>(harness: &H, group: &str, after: Option<Duration>) -> Vec<String> {
    let (broadcast, _) = group.split_once('.').unwrap();
    let instance = Instance { broadcast, group, forget_after: after };
    harness.store().keep_instance(&instance).await.unwrap()
}

/// Whoever was seen before is silent: answers who was forgotten, as soon as somebody was.
async fn forget<H: Harness>(harness: &H, group: &str) -> Vec<String> {
    loop {
        let forgotten = keep(harness, group, Some(Duration::ZERO)).await;
        if !forgotten.is_empty() {
            return forgotten;
        }
        // Two moments of the store's clock can be one.
        tokio::task::yield_now().await;
    }
}

fn scope(group: &str) -> String {
    format!("bill@{group}")
}

/// An instance with a lane in which an event was processed and another one given up on.
async fn work<H: Harness>(harness: &H, group: &str) -> Held {
    let (store, scope, identity) = (harness.store(), scope(group), log("log"));
    let scopes = [(scope.as_str(), MarkerMode::Rows)];
    let broadcast = group.split_once('.').map(|(broadcast, _)| broadcast);
    let registration =
        Registration { group, scopes: &scopes, windows: &[], adopt: &[], retire: &[], broadcast };
    store.register(&registration).await.unwrap();
    let lanes = [(0, Position::at(0))];
    let opening = Opening { group, topic: TOPIC, identity: &identity, lanes: &lanes };
    store.open_topic(&opening).await.unwrap();
    let id = LaneId { group: group.into(), topic: TOPIC.into(), partition: 0 };
    let held = store.take(&id, &owner(group)).await.unwrap().unwrap().held();
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let (first, event, cause) = (key("e1"), event(1, "k"), cause());
    let new = store.claim(&mut tx, &writer, &[plain(&scope, &first)]).await.unwrap();
    assert_eq!(new, Claimed::Keys(vec![true]));
    let letter = NewLetter { scope: &scope, ..dead(&event, &cause) };
    store.give_up(&mut tx, &held, &[letter]).await.unwrap();
    let offset_scopes = [scope.as_str()];
    let seal = Seal { position: Position::at(2), offset_scopes: &offset_scopes };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    store.read(&held).await.unwrap().unwrap().held()
}

/// How many lanes, markers and dead letters of an instance there are.
async fn there<H: Harness>(harness: &H, group: &str) -> (usize, usize, usize) {
    let (store, scope) = (harness.store(), scope(group));
    let lanes = store.lanes(group, TOPIC).await.unwrap().len();
    let marker = store.marker(&scope, &key("e1")).await.unwrap();
    let letters = store.letters(&LetterFilter::new().scope(scope)).await.unwrap();
    (lanes, usize::from(marker.is_some()), letters.len())
}

pub async fn an_instance_that_is_alive_is_kept<H: Harness>(harness: &H) {
    work(harness, "fleet.a").await;
    for _ in 0..2 {
        assert!(keep(harness, "fleet.a", None).await.is_empty());
        assert!(keep(harness, "fleet.b", Some(AN_HOUR)).await.is_empty());
        // Not itself either.
        assert!(keep(harness, "alone.a", Some(Duration::ZERO)).await.is_empty());
    }
    assert_eq!(there(harness, "fleet.a").await, (1, 1, 1));
}

pub async fn a_silent_instance_is_forgotten_with_all_it_had<H: Harness>(harness: &H) {
    for group in ["fleet.a", "fleet.b", "other.a"] {
        keep(harness, group, None).await;
        work(harness, group).await;
    }
    work(harness, "plain").await;
    assert_eq!(forget(harness, "fleet.b").await, ["fleet.a"]);
    assert_eq!(there(harness, "fleet.a").await, (0, 0, 0));
    for group in ["fleet.b", "other.a", "plain"] {
        assert_eq!(there(harness, group).await, (1, 1, 1), "{group}");
    }
    assert!(keep(harness, "fleet.b", Some(Duration::ZERO)).await.is_empty(), "it is gone");
    // Its scope is nobody's any more.
    let scope = scope("fleet.a");
    let scopes = [(scope.as_str(), MarkerMode::Offset)];
    let registration = Registration {
        group: "new",
        scopes: &scopes,
        windows: &[],
        adopt: &[],
        retire: &[],
        broadcast: None,
    };
    harness.store().register(&registration).await.unwrap();
}

/// Registers a group with one scope.
async fn register<H: Harness>(
    harness: &H,
    group: &str,
    broadcast: Option<&str>,
    (scope, retire): (&str, &[String]),
) -> Result<()> {
    let scopes = [(scope, MarkerMode::Rows)];
    let registration =
        Registration { group, scopes: &scopes, windows: &[], adopt: &[], retire, broadcast };
    harness.store().register(&registration).await
}

pub async fn an_instance_that_becomes_a_group_of_its_own_is_not_forgotten<H: Harness>(harness: &H) {
    work(harness, "fleet.a").await;
    register(harness, "fleet.a", None, (&scope("fleet.a"), &[])).await.unwrap();
    // The process that it was says once more that it is there.
    let instance = Instance { broadcast: "fleet", group: "fleet.a", forget_after: None };
    let error = harness.store().keep_instance(&instance).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Scope, "{error:?}");
    work(harness, "fleet.b").await;
    assert_eq!(forget(harness, "fleet.c").await, ["fleet.b"]);
    assert_eq!(there(harness, "fleet.a").await, (1, 1, 1));
    // Nor is one whose handlers are others now.
    work(harness, "fleet.d").await;
    register(harness, "fleet.d", None, ("new", &[scope("fleet.d")])).await.unwrap();
    work(harness, "fleet.e").await;
    assert_eq!(forget(harness, "fleet.c").await, ["fleet.e"]);
    assert_eq!(there(harness, "fleet.d").await, (1, 1, 1));
}

pub async fn two_groups_that_are_one_for_kafka_are_refused<H: Harness>(harness: &H) {
    let refused = async |group, broadcast| {
        let error = register(harness, group, broadcast, ("second", &[])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Scope, "{error:?}");
        assert!(error.to_string().contains("another name"), "{error}");
    };
    register(harness, "a.b.c", Some("a"), ("first", &[])).await.unwrap();
    refused("a.b.c", Some("a.b")).await;
    let instance = Instance { broadcast: "a.b", group: "a.b.c", forget_after: None };
    assert!(harness.store().keep_instance(&instance).await.is_err());
    register(harness, "a.b.c", Some("a"), ("first", &[])).await.unwrap();
    register(harness, "d.e", None, ("third", &[])).await.unwrap();
    refused("d.e", Some("d")).await;
    // Refused, it is recorded as nothing.
    register(harness, "d.e", None, ("third", &[])).await.unwrap();
}

pub async fn an_instance_that_was_forgotten_commits_nothing_and_begins_anew<H: Harness>(
    harness: &H,
) {
    keep(harness, "fleet.a", None).await;
    let held = work(harness, "fleet.a").await;
    forget(harness, "fleet.b").await;
    let store = harness.store();
    assert!(store.read(&held).await.unwrap().is_none());
    let writer = Writer::Lane(&held);
    let mut tx = begin(harness, &writer).await;
    let seal = Seal { position: Position::at(3), offset_scopes: &[] };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::No);
    store.rollback(tx).await;
    keep(harness, "fleet.a", None).await;
    work(harness, "fleet.a").await;
    assert_eq!(there(harness, "fleet.a").await, (1, 1, 1));
}

pub async fn instances_that_forget_together_forget_once<H: Harness>(harness: &H) {
    keep(harness, "fleet.a", None).await;
    work(harness, "fleet.a").await;
    let forgotten = loop {
        let (b, c) = tokio::join!(
            keep(harness, "fleet.b", Some(Duration::from_millis(1))),
            keep(harness, "fleet.c", Some(Duration::from_millis(1))),
        );
        let forgotten: Vec<_> =
            b.into_iter().chain(c).filter(|group| *group == "fleet.a").collect();
        if !forgotten.is_empty() {
            break forgotten;
        }
    };
    assert_eq!(forgotten, ["fleet.a"]);
    assert_eq!(there(harness, "fleet.a").await, (0, 0, 0));
}
