//! Running something once without Kafka: a webhook, a cron job, a test.
//!
//! The same claim, the same guard and the same commit as in a lane, for one key.

mod failed;
mod once;

use serde_json::Value;
use uuid::Uuid;

pub(crate) use self::failed::failed;
use self::once::{Once, Wanted, refused};
pub(crate) use self::once::{checked, closure, mark};
use crate::answer::{Answers, typed};
use crate::context::Context;
use crate::effects::{Probed, UNKNOWN};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::handler::{Call, EventOf, Handler, Input, KeyedByEvent};
use crate::key::Key;
use crate::marker::MarkerState;
use crate::outcome::Outcome;
use crate::outside::{Opened, Opening};
use crate::policy::MissingKey;
use crate::state::{Needs, States};
use crate::store::{Claim, Store, Terms};
use crate::work::bounded;

/// Runs handlers idempotently without Kafka, with the state they ask for.
///
/// ```no_run
/// # async fn example<S: idem_runtime::Store, H>(store: S, event: idem_runtime::EventOf<H>)
/// # -> idem_runtime::Result<()>
/// # where H: idem_runtime::KeyedByEvent<Store = S> {
/// use idem_runtime::Processor;
///
/// let processor = Processor::new(store).state("a mailer");
/// let outcome = processor.process::<H>(event).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Processor<S> {
    store: S,
    states: States,
    metadata: Option<Value>,
}

impl<S: Store> Processor<S> {
    /// A processor on this store.
    pub fn new(store: S) -> Self {
        Self { store, states: States::default(), metadata: None }
    }

    /// Gives a value to the handlers that have a `State<T>` parameter.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Keeps this beside the markers it writes.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Runs the handler for this event, once for its key. Payloads are not compared, whatever the handler's
    /// [`payload_check`](crate::PayloadCheck) says: there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Handler`] with what the handler returned: nothing is kept then.
    /// [`ErrorKind::Key`] when the event has no key; unless the handler asks for
    /// [`ProcessWithoutGuarantee`](MissingKey::ProcessWithoutGuarantee): then it is run without a
    /// marker. [`ErrorKind::GivenUp`] when its key is that of
    /// a dead letter. [`ErrorKind::UnknownEnd`] when an attempt with effects outside of the database was
    /// begun, its end is not known, and it is not repeated (now). [`ErrorKind::Config`] when the handler
    /// needs state that was not given, or asks for what cannot be. Otherwise the database failed; when
    /// [`is_retryable`](Error::is_retryable), the same call with the same event is safe.
    pub async fn process<H>(&self, event: EventOf<H>) -> Result<Outcome>
    where
        H: KeyedByEvent + Handler<Store = S>,
    {
        Ok(match self.run::<H>(event).await? {
            Outcome::Processed(_) => Outcome::Processed(()),
            Outcome::Duplicate(_) => Outcome::Duplicate(None),
            Outcome::Settled => Outcome::Settled,
        })
    }

    /// Runs the handler for this event, once for its key, and answers with what it returned: now, or
    /// when the key was processed. A duplicate of something that was processed before results were
    /// stored has none.
    ///
    /// # Errors
    /// As [`process`](Self::process). [`ErrorKind::Store`] when the result that was stored cannot be
    /// read as what the handler returns today.
    pub async fn answer<H>(&self, event: EventOf<H>) -> Result<Outcome<H::Answer>>
    where
        H: KeyedByEvent + Answers + Handler<Store = S>,
    {
        typed::<H>(self.run::<H>(event).await?)
    }

    /// The outcome, with what the handler returned if its results are stored.
    async fn run<H>(&self, event: EventOf<H>) -> Result<Outcome<Option<Value>>>
    where
        H: KeyedByEvent + Handler<Store = S>,
    {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        if let Some(wrong) = H::POLICY.contradiction() {
            let message = format!("the handler `{}` {wrong}", H::SCOPE);
            return Err(Error::new(ErrorKind::Config, message));
        }
        if let Some(need) = needs.states.iter().find(|need| !self.states.has(need)) {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the handler `{}` needs a State<{}>: run it with \
                     `Processor::new(store).state(..).process::<{}>(event)`",
                    H::SCOPE,
                    need.name,
                    H::SCOPE
                ),
            ));
        }
        let unmarked = H::POLICY.missing_key == Some(MissingKey::ProcessWithoutGuarantee);
        let (key, marked) = match H::key(&event, None) {
            Ok(key) => (Ok(key), true),
            // A key of no meaning, for the context.
            Err(error) if unmarked && error.is_missing() => (Key::of(&Uuid::new_v4()), false),
            Err(error) => (Err(error), true),
        };
        let key = key.map_err(|error| refused(H::SCOPE, error))?;
        let cx = Context::new(H::SCOPE, key.clone());
        let isolation = H::POLICY.isolation.unwrap_or_default();
        let outside = H::POLICY.unknown_end;
        let terms = Terms { isolation, outside: outside.is_some(), ..Terms::default() };
        let mut event = Some(event);
        let handle = async |event: &mut Option<EventOf<H>>, tx: &mut S::Tx| {
            let input = H::Input::next(&mut event.take().into_iter())
                .ok_or_else(|| Failure::new("the handler takes no event"))?;
            let mut answer = None;
            let call = Call::new(tx, std::slice::from_ref(&cx), &self.states);
            let handled = H::handle(input, call.answering(&mut answer));
            bounded(H::POLICY.timeout, handled).await?;
            if let (Some(answer), true) = (&answer, marked) {
                let kept = self.store.keep_results(tx, &[(H::SCOPE, &key, answer)]).await;
                // Not an error of the handler: what it has done outside of the database has happened.
                kept.map_err(Failure::not_kept)?;
            }
            Ok(answer)
        };
        if !marked {
            let effects = async |tx: &mut S::Tx| handle(&mut event, tx).await;
            return crate::unmarked::unmarked(&self.store, H::SCOPE, &terms, effects).await;
        }
        let place = |error: Error| error.context(format_args!("scope {}, key {key}", H::SCOPE));
        let mut backoff = crate::backoff::Backoff::for_store();
        let outcome = loop {
            let opening = outside.map(|unknown| Opening {
                claim: Claim {
                    state: MarkerState::Begun,
                    attempt: Some(Uuid::new_v4()),
                    metadata: self.metadata.as_ref(),
                    ..Claim::new(H::SCOPE, &key)
                },
                letter: None,
                scope: H::SCOPE,
                unknown,
                timeout: H::POLICY.timeout,
                states: &self.states,
            });
            let opened = match (&opening, &event) {
                (Some(opening), Some(event)) => {
                    self.opened::<H>(opening, event).await.map_err(place)?
                }
                _ => Opened::Known,
            };
            let has_happened = matches!(opened, Opened::Mark(_));
            let over = match opened {
                Opened::Run => opening.as_ref().and_then(|it| it.claim.attempt),
                Opened::Mark(attempt) => Some(attempt),
                _ => None,
            };
            let metadata = self.metadata.as_ref();
            let marker = match (over, outside) {
                (Some(attempt), _) => Wanted::Attempt(attempt),
                (None, Some(_)) => Wanted::Known,
                (None, None) => Wanted::New,
            };
            let once = Once { scope: H::SCOPE, key: &key, metadata, marker, terms };
            let effects = async |tx: &mut S::Tx| match has_happened {
                true => Ok(None),
                false => handle(&mut event, tx).await,
            };
            match run_once(&once, &self.store, opening.as_ref(), effects).await? {
                Some(outcome) => break outcome,
                // The marker is not what it was a moment ago.
                None => backoff.wait().await,
            }
        };
        match outcome {
            Outcome::Duplicate(_) if H::STORES_RESULT => {
                let marker = self.store.marker(H::SCOPE, &key).await?;
                Ok(Outcome::Duplicate(marker.map(|it| it.result)))
            }
            outcome => Ok(outcome),
        }
    }

    /// Writes the attempt down; what stands in its way is an error.
    async fn opened<H>(&self, opening: &Opening<'_>, event: &EventOf<H>) -> Result<Opened>
    where
        H: KeyedByEvent + Handler<Store = S>,
    {
        let mut opened = opening.open(&self.store, None).await?;
        while let Opened::Ask(other) = &opened {
            let begun = opening.begun(other);
            let asked = bounded(H::POLICY.timeout, H::probe(event, &begun)).await;
            let probed: Probed = asked.map_err(failed::<S>)?;
            opened = opening.probed(&self.store, other, probed).await?;
        }
        match opened {
            Opened::Later(rest) => {
                let message = format!("{UNKNOWN}: call again in {rest:.0?}");
                Err(Error::new(ErrorKind::UnknownEnd, message))
            }
            Opened::GiveUp(_, why) => Err(Error::new(ErrorKind::UnknownEnd, why)),
            opened => Ok(opened),
        }
    }
}

/// Runs it; where its effects are outside, an error of the handler takes the attempt back. Nothing when
/// the marker is to be looked at again.
async fn run_once<S: Store, T>(
    once: &Once<'_>,
    store: &S,
    opening: Option<&Opening<'_>>,
    effects: impl AsyncFnOnce(&mut S::Tx) -> Result<T, Failure>,
) -> Result<Option<Outcome<T>>> {
    let Some(opening) = opening else { return once.run(store, effects).await };
    let mut has_failed = false;
    let outcome = once
        .run(store, async |tx: &mut S::Tx| {
            let result = effects(tx).await;
            // Of a call that took too long nobody knows what it has done.
            has_failed = result.as_ref().is_err_and(Failure::returned);
            result
        })
        .await;
    if has_failed && outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Handler) {
        opening.take_back(store).await;
    }
    outcome
}

/// What `bill::process(&store, event)` calls.
///
/// # Errors
/// As [`Processor::process`].
pub async fn process<H: KeyedByEvent>(store: &H::Store, event: EventOf<H>) -> Result<Outcome> {
    Processor::new(store.clone()).process::<H>(event).await
}

/// What `bill::process(&store, event)` calls when its results are stored.
///
/// # Errors
/// As [`Processor::answer`].
pub async fn answer<H: KeyedByEvent + Answers>(
    store: &H::Store,
    event: EventOf<H>,
) -> Result<Outcome<H::Answer>> {
    Processor::new(store.clone()).answer::<H>(event).await
}
