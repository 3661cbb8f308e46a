//! Opening topics: creating the lanes of a topic that has none.
//!
//! `start` says where a group begins, and so it is weighed once. A group that reads topics by pattern
//! finds new ones later, some time after their first events, and perhaps while none of its members
//! runs: those start at their beginning. Which topics are new is told by the lanes: the first member
//! of a group that has none opens, in one transaction, every topic that its patterns and names found
//! when it started; from then on a topic that a pattern finds and that has no lanes is new.
//!
//! The topics were listed before the lanes are asked for, so that of two first members the second
//! opens nothing at its end that appeared after the first had begun.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::lane::{LaneId, LogIdentity, Position};
use crate::pipeline::policy::{Policies, Start};
use crate::pipeline::start;
use crate::pipeline::take::Taking;
use crate::store::{Opening, Store};

/// The lanes of a topic that are to be created.
struct Opened {
    topic: String,
    identity: LogIdentity,
    lanes: Vec<(i32, Position)>,
}

impl<S: Store> Taking<'_, S> {
    /// Creates the lanes of all partitions of the topic that have none, in one transaction, so that
    /// `start` is resolved once and a partition that is added later can be told.
    pub(super) async fn open(&self) -> Result<()> {
        let id = &self.seat.id;
        let found = self.group.found.get();
        let found = found.filter(|_| self.policies.start == Some(Start::Latest));
        let mut opened = Vec::new();
        match found {
            None => opened.extend(self.opened(&id.topic, self.policies).await?),
            Some(found) if self.group.store.has_lanes(&id.group).await? => {
                let policies = self.policies_of(&id.topic, found, true);
                opened.extend(self.opened(&id.topic, &policies).await?);
            }
            Some(found) => {
                let mut topics: BTreeSet<&str> = found.iter().map(String::as_str).collect();
                topics.insert(&id.topic);
                for topic in topics {
                    let policies = self.policies_of(topic, found, false);
                    opened.extend(self.opened(topic, &policies).await?);
                }
            }
        }
        let openings: Vec<_> = opened.iter().map(|it| it.opening(&id.group)).collect();
        self.group.store.open_topics(&openings).await
    }

    /// What a topic is opened with: a new one starts at its beginning.
    fn policies_of(&self, topic: &str, found: &BTreeSet<String>, has_lanes: bool) -> Policies {
        let is_new = !self.group.names(topic) && (has_lanes || !found.contains(topic));
        let start = if is_new { Some(Start::Earliest) } else { self.policies.start };
        Policies { start, ..*self.policies }
    }

    /// The lanes to create in a topic; `None` when somebody created them meanwhile.
    async fn opened(&self, topic: &str, policies: &Policies) -> Result<Option<Opened>> {
        let id = &self.seat.id;
        // The rows are read after the group's commits: whoever opened the topic meanwhile may have
        // marked commits already, and a mark without a row means that the database lost it.
        let is_own = *topic == *id.topic;
        let surveys = match self.source.survey(topic, None).await {
            // It was deleted since; created again, it is new.
            Err(error) if !is_own && error.kind() == ErrorKind::Config => return Ok(None),
            surveys => surveys?,
        };
        let rows = self.group.store.lanes(&id.group, topic).await?;
        if rows.iter().any(|row| !is_own || row.id == *id) {
            return Ok(None);
        }
        let scopes: Vec<_> = self.group.scopes().into_iter().map(|(scope, _)| scope).collect();
        let mut lanes = Vec::new();
        let mut identity = None;
        for survey in &surveys {
            if rows.iter().any(|row| row.id.partition == survey.partition) {
                continue;
            }
            let lane = LaneId {
                group: id.group.clone(),
                topic: topic.into(),
                partition: survey.partition,
            };
            let known = !rows.is_empty();
            let position = start::without_row(&lane, survey, policies, &scopes, known)?;
            lanes.push((survey.partition, position));
            identity.get_or_insert_with(|| survey.identity.clone());
        }
        let has_own = !is_own || lanes.iter().any(|(it, _)| *it == id.partition);
        match identity.filter(|_| has_own) {
            Some(identity) => Ok(Some(Opened { topic: topic.to_owned(), identity, lanes })),
            None if !is_own => Ok(None),
            None => Err(Error::new(
                ErrorKind::Kafka,
                format!("{id}: the broker does not know this partition"),
            )),
        }
    }
}

impl Opened {
    fn opening<'a>(&'a self, group: &'a str) -> Opening<'a> {
        Opening { group, topic: &self.topic, identity: &self.identity, lanes: &self.lanes }
    }
}
