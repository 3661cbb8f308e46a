//! Where topics start that a pattern finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::handlers::Bill;
use crate::error::{Error, ErrorKind, Result};
use crate::group::{Group, Registered};
use crate::lane::{LaneId, LogIdentity, Owner, Position};
use crate::memory::{Memory, Point};
use crate::pipeline::policy::{Policies, Start};
use crate::pipeline::source::{Seat, Source, Survey};
use crate::pipeline::stats::Stats;
use crate::pipeline::take::Taking;
use crate::routing::{Rules, Told, Topic};
use crate::state::States;

/// Topics by name, and where each of their logs ends.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<BTreeMap<String, Vec<i64>>>>);

impl Logs {
    fn of<'a>(topics: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let logs = Self::default();
        for (topic, high) in topics {
            logs.write(topic, high);
        }
        logs
    }

    /// A topic of two partitions, with so many events in each.
    fn write(&self, topic: &str, high: i64) {
        self.0.lock().unwrap().insert(topic.to_owned(), vec![high, high]);
    }

    fn delete(&self, topic: &str) {
        self.0.lock().unwrap().remove(topic);
    }

    fn found(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl Source for Logs {
    async fn survey(&self, topic: &str, partition: Option<i32>) -> Result<Vec<Survey>> {
        let logs = self.0.lock().unwrap();
        let highs = logs.get(topic).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("topic {topic} does not exist"))
        })?;
        let surveys = (0..).zip(highs).map(|(partition, high)| Survey {
            partition,
            commit: None,
            low: 0,
            high: *high,
            identity: LogIdentity { cluster_id: None, topic_id: Some(topic.to_owned()) },
        });
        Ok(surveys.filter(|it| partition.is_none_or(|wanted| it.partition == wanted)).collect())
    }

    async fn partitions(&self, topic: &str) -> Result<i32> {
        Ok(i32::try_from(self.survey(topic, None).await?.len()).unwrap())
    }

    async fn identity(&self, topic: &str) -> Result<LogIdentity> {
        Ok(LogIdentity { cluster_id: None, topic_id: Some(topic.to_owned()) })
    }

    async fn start(&self, _: &Arc<Seat>, _: Position) -> Result<()> {
        Ok(())
    }

    async fn halt(&self, _: &Arc<Seat>) {}

    async fn mark(&self, _: &Arc<Seat>, _: Position) -> Result<()> {
        Ok(())
    }
}

/// A process that is a member of the group; it knows the topics that were there when it started.
struct Member {
    group: Group<Memory>,
    logs: Logs,
}

impl Member {
    fn start(store: &Memory, logs: &Logs, topics: &[&str]) -> Self {
        let mut handler = Registered::of::<Bill>();
        handler.topics = topics.iter().map(|topic| Topic::new(topic)).collect();
        let found = OnceLock::new();
        if handler.topics.iter().any(Topic::is_pattern) {
            found.set(logs.found()).unwrap();
        }
        let group = Group {
            name: "g".into(),
            store: store.clone(),
            handlers: vec![handler],
            states: Arc::new(States::default()),
            registry: None,
            rules: Rules::default(),
            told: Told::default(),
            found,
            filters: crate::packed::Filters::default(),
        };
        Self { group, logs: logs.clone() }
    }

    /// Where the lane of a topic starts that this member takes.
    async fn takes(&self, topic: &str) -> i64 {
        let id = LaneId { group: "g".into(), topic: topic.into(), partition: 0 };
        let taking = Taking {
            group: &self.group,
            owner: &Owner {
                id: Uuid::new_v4(),
                name: "m".into(),
                dead_after: Duration::from_secs(1),
            },
            seat: &Arc::new(Seat::new(id, 1 << 20)),
            source: &self.logs,
            policies: &Policies { start: Some(Start::Latest), ..Policies::default() },
            stats: &Stats::default(),
            again: false,
        };
        taking.take().await.unwrap().position.offset
    }
}

const PATTERN: &[&str] = &["^t"];

#[tokio::test]
async fn a_topic_that_appears_while_nobody_runs_is_read_from_its_beginning() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10)]));
    assert_eq!(Member::start(&store, &logs, PATTERN).takes("t1").await, 10);
    logs.write("t2", 20);
    let restarted = Member::start(&store, &logs, PATTERN);
    assert_eq!(restarted.takes("t2").await, 0);
    assert_eq!(restarted.takes("t1").await, 10);
}

#[tokio::test]
async fn a_group_that_begins_skips_what_is_in_all_topics_that_it_finds() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10), ("t2", 20)]));
    let (one, other) =
        (Member::start(&store, &logs, PATTERN), Member::start(&store, &logs, PATTERN));
    assert_eq!(one.takes("t1").await, 10);
    logs.write("t2", 25);
    assert_eq!(other.takes("t2").await, 20, "it was resolved when the group began");
}

#[tokio::test]
async fn two_first_members_that_open_at_once_read_the_same() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10), ("t2", 20)]));
    let one = Member::start(&store, &logs, PATTERN);
    logs.write("t3", 30);
    let other = Member::start(&store, &logs, PATTERN);
    // Both found no lanes.
    let opening = store.faults().pause(Point::OpenTopics);
    let (at_one, at_others) = tokio::join!(one.takes("t1"), async {
        opening.reached().await;
        let at = (other.takes("t2").await, other.takes("t3").await, other.takes("t1").await);
        opening.release();
        at
    });
    assert_eq!((at_one, at_others), (10, (20, 30, 10)));
}

#[tokio::test]
async fn a_topic_that_only_a_late_first_member_found_is_new() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10)]));
    let one = Member::start(&store, &logs, PATTERN);
    assert_eq!(one.takes("t1").await, 10);
    logs.write("t2", 20);
    assert_eq!(Member::start(&store, &logs, PATTERN).takes("t2").await, 0);
}

#[tokio::test]
async fn a_topic_that_appears_before_a_new_group_has_any_is_read_from_its_beginning() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10)]));
    let one = Member::start(&store, &logs, PATTERN);
    logs.write("t2", 20);
    assert_eq!((one.takes("t2").await, one.takes("t1").await), (0, 10));
}

#[tokio::test]
async fn a_topic_that_is_deleted_before_the_group_begins_does_not_hold_it_up() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10), ("t2", 20)]));
    let one = Member::start(&store, &logs, PATTERN);
    logs.delete("t2");
    assert_eq!(one.takes("t1").await, 10);
    logs.write("t2", 7);
    assert_eq!(one.takes("t2").await, 0, "it is another one");
}

#[tokio::test]
async fn a_topic_that_is_added_by_its_name_starts_where_start_says() {
    let (store, logs) = (Memory::new(), Logs::of([("t1", 10), ("named", 5)]));
    assert_eq!(Member::start(&store, &logs, PATTERN).takes("t1").await, 10);
    let release = Member::start(&store, &logs, &["^t", "named"]);
    assert_eq!(release.takes("named").await, 5);
}
