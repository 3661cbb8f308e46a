//! Groups whose instances each read everything: names, and who is still there.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::store::{Instance, Store};

/// How many heartbeats an instance sends before it says of others that they are silent: after an
/// outage of the database all of them are, until each had its turn.
const GRACE: u32 = 10;

/// Makes each instance of a group read every event, in place of sharing them.
///
/// The instance reads as the Kafka group `GROUP.INSTANCE`, and its handlers have the scope
/// `SCOPE@INSTANCE`: what one instance has processed is nothing to the others. Where brokers ask for
/// rights, they are needed for all groups that begin with `GROUP.`.
///
/// ```
/// use std::time::Duration;
///
/// use idem_runtime::Broadcast;
///
/// let broadcast = Broadcast::new("pod-7").forget_after(Duration::from_secs(3600));
/// # drop(broadcast);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "give it to `Builder::broadcast`"]
pub struct Broadcast {
    instance: String,
    forget_after: Option<Duration>,
}

impl Broadcast {
    /// As the instance of this name. It goes on where it stopped when it comes back under the same
    /// name; two that run under one name at once share its events.
    pub fn new(instance: impl Into<String>) -> Self {
        Self { instance: instance.into(), forget_after: None }
    }

    /// Forgets instances of the group that were not heard of for so long: their positions, markers and
    /// dead letters are deleted by those that are there. One that comes back after that begins anew,
    /// where `start` says. Default: none is forgotten.
    pub fn forget_after(mut self, time: Duration) -> Self {
        self.forget_after = Some(time);
        self
    }

    /// The Kafka group of the instance.
    pub(crate) fn group(&self, group: &str) -> String {
        group_of(group, &self.instance)
    }

    /// The scope of a handler in the instance.
    pub(crate) fn scope(&self, scope: &str) -> String {
        scope_of(scope, &self.instance)
    }

    /// What is wrong with it in this group, one sentence each.
    pub(crate) fn mistakes(&self, group: &str, check_interval: Duration) -> Vec<String> {
        let mut mistakes = Vec::new();
        let name = &self.instance;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(legal) {
            mistakes.push(format!(
                "group `{group}`: the broadcast instance `{}` needs a name of the characters a-z, \
                 A-Z, 0-9, `.`, `_` and `-`",
                name.escape_debug()
            ));
        }
        let least = check_interval * GRACE;
        if self.forget_after.is_some_and(|time| time < least) {
            mistakes.push(format!(
                "group `{group}`: `.forget_after(..)` must be at least {least:?}, ten times \
                 `.check_interval(..)`: an instance that is alive is heard of once an interval"
            ));
        }
        mistakes
    }
}

/// The Kafka group of an instance.
pub(crate) fn group_of(group: &str, instance: &str) -> String {
    format!("{group}.{instance}")
}

/// The scope of a handler in an instance.
pub(crate) fn scope_of(scope: &str, instance: &str) -> String {
    format!("{scope}@{instance}")
}

/// An instance that says that it is there.
pub(crate) struct Heart {
    /// The group as all its instances call it.
    pub(crate) broadcast: String,
    /// The instance's own.
    pub(crate) group: Arc<str>,
    pub(crate) forget_after: Option<Duration>,
}

impl Heart {
    pub(crate) fn new(broadcast: &Broadcast, described: &str) -> Self {
        Self {
            broadcast: described.to_owned(),
            group: broadcast.group(described).into(),
            forget_after: broadcast.forget_after,
        }
    }

    /// One heartbeat; with `forget`, others that were silent for too long are forgotten.
    pub(crate) async fn beat<S: Store>(&self, store: &S, forget: bool) -> Result<()> {
        let forget_after = self.forget_after.filter(|_| forget);
        let instance = Instance { broadcast: &self.broadcast, group: &self.group, forget_after };
        for group in store.keep_instance(&instance).await? {
            tracing::warn!(
                group,
                not_seen_for = ?self.forget_after.unwrap_or_default(),
                "an instance was not heard of for too long: its positions, markers and dead letters \
                 are deleted, and it begins anew if it comes back"
            );
        }
        Ok(())
    }

    /// Beats every `interval`, until it is dropped. Forgetting others takes its time, and goes on beside
    /// the beats: who is silent meanwhile would be forgotten by the next one.
    pub(crate) async fn run<S: Store>(self, store: S, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beats = 0_u32;
        let mut last = Instant::now();
        let mut forgetting = None;
        loop {
            let forgotten = async {
                match forgetting.as_mut() {
                    Some(forgotten) => Pin::new(forgotten).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                result = forgotten => {
                    forgetting = None;
                    if let Err(error) = result {
                        beats = 0;
                        self.say_trouble(&error, "silent instances cannot be forgotten, trying again");
                    }
                    continue;
                }
            }
            // It may have stood still itself, and the others with it.
            if last.elapsed() > interval * GRACE {
                beats = 0;
            }
            let begun = Instant::now();
            match self.beat(&store, false).await {
                // What makes this one slow may have kept others from saying that they are there.
                Ok(()) if begun.elapsed() > interval => beats = 0,
                Ok(()) => beats = beats.saturating_add(1),
                Err(error) => {
                    beats = 0;
                    self.say_trouble(
                        &error,
                        "the instance cannot say that it is there, trying again",
                    );
                }
            }
            last = Instant::now();
            if beats > GRACE && forgetting.is_none() && self.forget_after.is_some() {
                forgetting = Some(Box::pin(self.beat(&store, true)));
            }
        }
    }

    fn say_trouble(&self, error: &Error, what: &str) {
        tracing::warn!(group = %self.group, error = %error.report(), "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::memory::{Memory, Point};

    #[test]
    fn names_are_those_of_the_instance() {
        let broadcast = Broadcast::new("pod-7");
        assert_eq!(broadcast.group("caches"), "caches.pod-7");
        assert_eq!(broadcast.scope("evict"), "evict@pod-7");
    }

    #[test]
    fn an_instance_needs_a_name_and_time_to_be_heard_of() {
        let second = Duration::from_secs(1);
        let mistakes = |it: Broadcast| it.mistakes("g", second);
        assert!(mistakes(Broadcast::new("pod-7").forget_after(10 * second)).is_empty());
        for name in ["", "a b", "a@b", "a,b"] {
            assert_eq!(mistakes(Broadcast::new(name)).len(), 1, "{name}");
        }
        let soon = mistakes(Broadcast::new("a").forget_after(9 * second));
        assert!(soon[0].contains("at least 10s"), "{soon:?}");
    }

    fn heart(instance: &str) -> Heart {
        let broadcast = Broadcast::new(instance).forget_after(Duration::from_millis(1));
        Heart::new(&broadcast, "g")
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_forgotten_only_after_they_had_time_to_be_heard_of() {
        let interval = Duration::from_secs(1);
        let store = Memory::new();
        heart("a").beat(&store, false).await.unwrap();
        // The store's clock is not virtual.
        let before = std::time::Instant::now();
        while before.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
        let running = tokio::spawn(heart("b").run(store.clone(), interval));
        // Virtual time, here and below: nobody waits.
        tokio::time::sleep(interval * 5).await;
        assert_eq!(store.look(|view| view.instances()), ["g.a", "g.b"]);
        store.faults().fail(Point::KeepInstance, ErrorKind::Connection);
        tokio::time::sleep(interval * 9).await;
        assert_eq!(store.look(|view| view.instances()), ["g.a", "g.b"], "an outage begins it anew");
        tokio::time::sleep(interval * 4).await;
        assert_eq!(store.look(|view| view.instances()), ["g.b"]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_says_that_it_is_there_however_long_forgetting_others_takes() {
        let interval = Duration::from_secs(1);
        let store = Memory::new();
        let forgetting = store.faults().pause(Point::ForgetInstances);
        let running = tokio::spawn(heart("b").run(store.clone(), interval));
        forgetting.reached().await;
        for _ in 0..3 {
            let beat = store.faults().pause(Point::KeepInstance);
            beat.reached().await;
            beat.release();
        }
        assert!(!running.is_finished());
        // Once at a time: it is begun again when it is done.
        let next = store.faults().pause(Point::ForgetInstances);
        // Virtual time.
        tokio::time::sleep(interval * 5).await;
        assert!(!next.is_reached(), "the first one still goes on");
        forgetting.release();
        next.reached().await;
        running.abort();
    }
}
