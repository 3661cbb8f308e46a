//! Replaying dead letters: what is asked for, and which letters go to which handlers. Each is one
//! transaction, which is `attempt.rs`.

mod attempt;
mod begun;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::attempt::Replayed;
use crate::broadcast::{group_of, scope_of};
use crate::dead_letter::{DeadLetter, FailureClass, LetterFilter, LetterState};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::format::{Encoded, Schemas};
use crate::group::{Handlers, Registered, Serves, lasting};
use crate::handler::Subscriber;
use crate::registry::SchemaRegistry;
use crate::routing::{Correlation, EventType, Rules, Wish};
use crate::state::States;
use crate::store::Store;
use crate::work::{Identity, Refusal, Work};

/// What is said of an event that still no handler wants.
const NOBODY: &str = "no handler wanted the event, and none of this replay reads its topic and wants its \
                      type: register one that does, or drop the letter";

/// How many letters are read at once.
const PAGE: u32 = 200;

/// Replays dead letters with their handlers, in any process that has them.
///
/// A letter has its effects once, however often and wherever it is replayed, and also while its
/// event is delivered again: the replay goes through the claim. Of a parked letter the message key
/// is released: what waits behind it is worked by the consumer that holds the partition, in order.
///
/// ```no_run
/// # async fn example<S, H>(store: S) -> idem_runtime::Result<()>
/// # where S: idem_runtime::Store + idem_runtime::Serves<H>, H: idem_runtime::Subscriber {
/// use idem_runtime::{LetterFilter, Replay};
///
/// let replay = Replay::new(store, "ana").handler::<H>().per_second(50.0);
/// let filter = LetterFilter::new().scope("bill").fingerprint("8f1c2a90de77b3a1");
/// println!("would replay {}", replay.clone().dry_run().run(&filter).await?.matched);
/// let report = replay.run(&filter).await?;
/// for (id, error) in &report.failed {
///     println!("{id} failed again: {error}");
/// }
/// # Ok(()) }
/// ```
pub struct Replay<S: Store> {
    store: S,
    by: String,
    states: States,
    handlers: Vec<Registered<S>>,
    registry: Option<SchemaRegistry>,
    /// The group of the handlers, as its builder calls it.
    group: Option<String>,
    /// The instance of a broadcast group whose letters are replayed.
    instance: Option<String>,
    rules: Rules,
    pause: Option<Duration>,
    dry_run: bool,
}

impl<S: Store> Clone for Replay<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            by: self.by.clone(),
            states: self.states.clone(),
            handlers: self.handlers.clone(),
            registry: self.registry.clone(),
            group: self.group.clone(),
            instance: self.instance.clone(),
            rules: self.rules.clone(),
            pause: self.pause,
            dry_run: self.dry_run,
        }
    }
}

/// What a replay did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Open letters of the filter whose handler is registered.
    pub matched: u64,
    /// Those whose effects were committed by this replay.
    pub processed: u64,
    /// Those whose key had been processed by another event: they are settled without effects. Not those
    /// that were kept for that very reason ([`FailureClass::KeyReuse`]), which fail until their key is
    /// another one.
    pub superseded: u64,
    /// Those that were settled by somebody else meanwhile.
    pub settled: u64,
    /// Those that wait behind a parked one, which is the one to replay.
    pub waiting: u64,
    /// Those that failed again, by number; they stay as they are, with a note.
    pub failed: Vec<(i64, String)>,
    /// Scopes of letters whose handler is not registered here, and of events that no handler of a group
    /// wanted which is not [the one of this replay](Replay::group): those letters were left alone.
    pub unknown_scopes: Vec<String>,
}

impl<S: Store> Replay<S> {
    /// A replay on this store, by a person or a tool of this name.
    pub fn new(store: S, by: impl Into<String>) -> Self {
        Self {
            store,
            by: by.into(),
            states: States::default(),
            handlers: Vec::new(),
            registry: None,
            group: None,
            instance: None,
            rules: Rules::default(),
            pause: None,
            dry_run: false,
        }
    }

    /// Registers a handler: its letters can be replayed.
    #[must_use]
    pub fn handler<H: Subscriber>(mut self) -> Self
    where
        S: Serves<H>,
    {
        let mut handlers = Handlers(self.handlers);
        <S as Serves<H>>::register(&mut handlers);
        self.handlers = handlers.0;
        self.rename(self.handlers.len() - 1);
        self
    }

    /// Gives a value to the handlers that have a `State<T>` parameter.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Where the schemas of Avro events are.
    #[cfg(feature = "avro")]
    #[must_use]
    pub fn schema_registry(mut self, registry: SchemaRegistry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Says which group the handlers belong to, as its builder calls it: what none of that group's
    /// handlers wanted ([`Unmatched::DeadLetter`](crate::Unmatched)) is replayed with those of this
    /// replay that want it. Such events of other groups, or of all if no group is said, are left alone.
    ///
    /// Letters of handlers need it not: a scope belongs to one group.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Replays letters of this instance of a broadcast group.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self.rename(0);
        self
    }

    /// Handlers from this one on have the scopes of the instance.
    fn rename(&mut self, from: usize) {
        let Some(instance) = &self.instance else { return };
        for handler in &mut self.handlers[from..] {
            handler.scope = lasting(scope_of(handler.scope, instance));
        }
    }

    /// Where the type of an event is, if the handlers' group says so on its builder.
    #[must_use]
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.rules.event_type = event_type;
        self
    }

    /// Where an event's correlation and causation ids are, if the handlers' group says so on its
    /// builder.
    #[must_use]
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.rules.correlation = Arc::new(correlation);
        self
    }

    /// Replays at most so many letters a second.
    #[must_use]
    pub fn per_second(mut self, letters: f64) -> Self {
        self.pause = (letters > 0.0).then(|| Duration::from_secs_f64(1.0 / letters));
        self
    }

    /// Runs no handler and changes nothing: only decodes, and counts.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Replays the letters of the filter that are not settled, in the order of their numbers.
    ///
    /// An event that no handler of [the group](Self::group) wanted
    /// ([`Unmatched::DeadLetter`](crate::Unmatched)) goes to all handlers of this replay that read its
    /// topic and want its type, in one transaction; without any it fails, and the report says so.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a handler needs state or a schema registry that was not given, or the
    /// registry refuses the user.
    /// Otherwise the database failed, or the schema registry is away; what was replayed before is
    /// settled, and the same call goes on. A letter that fails again is not an error but in the
    /// report.
    pub async fn run(&self, filter: &LetterFilter) -> Result<ReplayReport> {
        self.check()?;
        let mut report = ReplayReport::default();
        let mut filter = filter.clone();
        let mut left = filter.limit.take();
        loop {
            filter.limit = Some(left.map_or(PAGE, |left| left.min(PAGE)));
            let letters = self.store.letters(&filter).await?;
            let Some(last) = letters.last() else { return Ok(report) };
            filter.after = Some(last.id);
            left = left.map(|left| left.saturating_sub(u32::try_from(letters.len()).unwrap_or(0)));
            for letter in letters {
                self.count(&mut report, letter).await?;
            }
            if left == Some(0) {
                return Ok(report);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn handlers_mut(&mut self) -> &mut [Registered<S>] {
        &mut self.handlers
    }

    fn check(&self) -> Result<()> {
        let mistake = |it: String| Err(Error::new(ErrorKind::Config, it));
        if let Some(wrong) = self.rules.event_type.mistake() {
            return mistake(wrong);
        }
        for handler in &self.handlers {
            if let Some(wrong) = handler.mistakes(&self.rules.event_type).next() {
                return mistake(format!("the handler `{}`: {wrong}", handler.scope));
            }
            if let Some(wrong) = handler.policy.contradiction() {
                return mistake(format!("the handler `{}` {wrong}", handler.scope));
            }
            if let Some(need) = handler.needs.states.iter().find(|need| !self.states.has(need)) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "the handler `{}` needs a State<{}>: add `.state(..)` to the replay",
                        handler.scope, need.name
                    ),
                ));
            }
            if handler.schema.is_some() && self.registry.is_none() {
                return mistake(format!(
                    "the handler `{}` reads Avro: add `.schema_registry(..)` to the replay",
                    handler.scope
                ));
            }
        }
        match self.registry.as_ref().map(SchemaRegistry::mistakes) {
            Some(mistakes) if !mistakes.is_empty() => mistake(mistakes.join("\n")),
            _ => Ok(()),
        }
    }

    /// The schema that an event is read with, if its handler needs one.
    async fn schemas(&self, handler: &Registered<S>, event: &Event) -> Result<Schemas> {
        match (&self.registry, handler.schema.and_then(|schema| schema(event))) {
            (Some(registry), Some(id)) => registry.schemas(&BTreeSet::from([id])).await,
            _ => Ok(Schemas::none()),
        }
    }

    async fn count(&self, report: &mut ReplayReport, letter: DeadLetter) -> Result<()> {
        if letter.state.is_settled() {
            return Ok(());
        }
        let unmatched =
            letter.cause.as_ref().is_some_and(|cause| cause.class == FailureClass::Unmatched);
        let handlers = match unmatched {
            true => self.wanting(&letter.event),
            false => self.handlers.iter().filter(|it| it.scope == letter.scope).collect(),
        };
        let known = if unmatched { self.is_of_group(&letter) } else { !handlers.is_empty() };
        if !known {
            if !report.unknown_scopes.contains(&letter.scope) {
                report.unknown_scopes.push(letter.scope);
            }
            return Ok(());
        }
        report.matched += 1;
        if handlers.is_empty() {
            report.failed.push((letter.id, NOBODY.to_owned()));
            return Ok(());
        }
        if self.dry_run {
            if letter.state == LetterState::Waiting {
                report.waiting += 1;
                return Ok(());
            }
            for handler in handlers {
                let schemas = self.schemas(handler, &letter.event).await?;
                if let Err(refusal) = self.push(handler, Encoded::new(&letter.event, &schemas)) {
                    report.failed.push((letter.id, refusal.to_string()));
                    break;
                }
            }
            return Ok(());
        }
        match self.one(&handlers, letter.id).await? {
            Replayed::Processed => report.processed += 1,
            Replayed::Superseded => report.superseded += 1,
            Replayed::Settled => report.settled += 1,
            Replayed::Waiting => report.waiting += 1,
            Replayed::Failed(error) => report.failed.push((letter.id, error)),
        }
        if let Some(pause) = self.pause {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Whether the handlers are those of the group that has given up on the event.
    pub(crate) fn is_of_group(&self, letter: &DeadLetter) -> bool {
        match (&self.group, &self.instance) {
            (Some(group), Some(instance)) => letter.group == group_of(group, instance),
            (Some(group), None) => letter.group == *group,
            (None, _) => false,
        }
    }

    /// The handlers that want an event which nobody wanted, in the order of their scopes: two replays
    /// take markers in the same order.
    fn wanting(&self, event: &Event) -> Vec<&Registered<S>> {
        let default = &self.rules.event_type;
        let wants =
            |it: &Registered<S>| it.wishes(event, default, |wish| !matches!(wish, Wish::No));
        let mut handlers: Vec<_> =
            self.handlers.iter().filter(|it| it.reads(&event.topic) && wants(it)).collect();
        handlers.sort_unstable_by_key(|handler| handler.scope);
        handlers
    }

    /// The event for this handler, decoded, and its key.
    fn push(
        &self,
        handler: &Registered<S>,
        event: Encoded<'_>,
    ) -> std::result::Result<(Box<dyn Work<S>>, Identity), Refusal> {
        let mut work = (handler.work)(handler.scope);
        let missing = handler.policy.missing_key;
        let identity = handler.wishes(&event, &self.rules.event_type, |wish| match wish {
            Wish::Unreadable(error) => Err(Refusal::Decode(error)),
            Wish::Yes(event_type) => work.push(event, event_type, missing),
            Wish::No => work.push(event, None, missing),
        })?;
        Ok((work, identity))
    }
}
