//! Running something once without Kafka: a webhook, a cron job, a test.
//!
//! The same claim, the same guard and the same commit as in a lane, for one key.

use serde_json::Value;
use uuid::Uuid;

use crate::answer::{Answers, typed};
use crate::context::Context;
use crate::effects::{Probed, UNKNOWN};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::handler::{Call, EventOf, Handler, Input, KeyedByEvent};
use crate::key::{IntoKey, Key};
use crate::marker::MarkerState;
use crate::outcome::Outcome;
use crate::outside::{Opened, Opening};
use crate::policy::MissingKey;
use crate::scope::check_scope;
use crate::state::{Needs, States};
use crate::store::{Claim, Claimed, Fault, Lends, Sealed, Store, Terms, Writer};
use crate::work::bounded;

/// How often a claim that failed for a passing reason is tried again before the caller is told.
const CLAIM_TRIES: u32 = 5;
/// How often an unknown commit is looked up before the caller is told.
const LOOKUPS: u32 = 10;

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

pub(crate) fn checked(scope: &str, key: impl IntoKey) -> Result<Key> {
    check_scope(scope)?;
    key.into_key().map_err(|error| refused(scope, error))
}

pub(crate) async fn mark<S: Store>(
    store: &S,
    scope: &str,
    key: Key,
    metadata: Option<Value>,
) -> Result<Outcome> {
    let once =
        Once { metadata: metadata.as_ref(), marker: Wanted::Settled, ..Once::new(scope, &key) };
    let outcome = once.run(store, async |_: &mut S::Tx| Ok(())).await?;
    outcome.ok_or_else(|| changed(scope, &key))
}

pub(crate) async fn closure<S: Store, T>(
    store: &S,
    scope: &str,
    key: Key,
    effects: impl AsyncFnOnce(&mut S::Connection) -> Result<T, Failure>,
) -> Result<Outcome<T>> {
    let once = Once::new(scope, &key);
    let outcome = once
        .run(store, async move |tx: &mut S::Tx| {
            effects(<S as Lends<S::Connection>>::lend(tx)).await
        })
        .await?;
    outcome.ok_or_else(|| changed(scope, &key))
}

/// What is said when a marker changed under every look.
fn changed(scope: &str, key: &Key) -> Error {
    let message =
        format!("scope {scope}, key {key}: the marker changed under the call: call again");
    Error::new(ErrorKind::Transient, message)
}

/// One key, to be processed once.
struct Once<'a> {
    scope: &'a str,
    key: &'a Key,
    metadata: Option<&'a Value>,
    marker: Wanted,
    terms: Terms,
}

/// Which marker a key has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// None.
    New,
    /// None, or one of an attempt, which is marked as processed.
    Settled,
    /// That of this attempt, which was begun.
    Attempt(Uuid),
    /// Any that is not of an attempt: one was seen.
    Known,
}

impl<'a> Once<'a> {
    fn new(scope: &'a str, key: &'a Key) -> Self {
        Self { scope, key, metadata: None, marker: Wanted::New, terms: Terms::default() }
    }

    /// Claim, run, seal, commit. Nothing, and nothing is run, when the marker is not the one that was
    /// seen before, or changed under the claim.
    async fn run<S: Store, T>(
        &self,
        store: &S,
        effects: impl AsyncFnOnce(&mut S::Tx) -> Result<T, Failure>,
    ) -> Result<Option<Outcome<T>>> {
        let Self { scope, key, .. } = *self;
        let attempt = Uuid::new_v4();
        let writer = Writer::Direct { attempt };
        let place = |error: Error| error.context(format_args!("scope {scope}, key {key}"));

        let claimed = self.claimed(store, &writer).await.map_err(place)?;
        let settled = matches!(claimed, Taken::Settled(_));
        let mut tx = match claimed {
            Taken::New(tx) | Taken::Settled(tx) => tx,
            Taken::Duplicate => {
                tracing::debug!(scope, key = %key, outcome = "duplicate", "idem");
                return Ok(Some(Outcome::Duplicate(None)));
            }
            Taken::Changed => return Ok(None),
            Taken::UnknownEnd => {
                let message = format!(
                    "{UNKNOWN}: `mark_processed` says that it has had its effect; the handler that \
                     began it decides otherwise when the event comes again"
                );
                return Err(place(Error::new(ErrorKind::UnknownEnd, message)));
            }
            Taken::GivenUp => {
                return Err(place(Error::new(
                    ErrorKind::GivenUp,
                    "an event with this key was given up on and is a dead letter: replay it, or \
                     correct it and replay it, or drop it",
                )));
            }
        };
        let value = match effects(&mut tx).await {
            Ok(value) => value,
            Err(failure) if failure.timed_out() => {
                // It was dropped in the middle of what it did: the connection goes with it.
                drop(tx);
                return Err(place(failed::<S>(failure)));
            }
            Err(failure) => {
                store.rollback(tx).await;
                return Err(place(failed::<S>(failure)));
            }
        };
        match store.seal(&mut tx, &writer, None).await {
            Ok(Sealed::Yes) => {}
            Ok(Sealed::No) => {
                store.rollback(tx).await;
                return Err(place(handler_broke()));
            }
            Err(error) => {
                store.rollback(tx).await;
                return Err(place(error));
            }
        }
        match store.commit(tx).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnknownCommit => {
                if !self.landed(store, attempt, &error).await.map_err(place)? {
                    return Err(place(Error::new(
                        ErrorKind::Transient,
                        "the connection was lost in the commit and nothing was kept: call again",
                    )));
                }
            }
            Err(error) => return Err(place(error)),
        }
        tracing::debug!(scope, key = %key, outcome = "processed", "idem");
        Ok(Some(if settled { Outcome::Settled } else { Outcome::Processed(value) }))
    }

    /// Begins and claims. Nothing of the user's has run yet, so that a passing failure is tried
    /// again here.
    async fn claimed<S: Store>(&self, store: &S, writer: &Writer<'_>) -> Result<Taken<S::Tx>> {
        let Self { metadata, marker: wanted, .. } = *self;
        let over = match wanted {
            Wanted::Attempt(attempt) => Some(attempt),
            _ => None,
        };
        let claim = Claim { metadata, over, ..Claim::new(self.scope, self.key) };
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let result: Result<Taken<S::Tx>> = async {
                let mut tx = store.begin(writer, &self.terms).await?;
                let taken = self.taken(store, writer, &mut tx, claim).await;
                match taken {
                    Ok(Taken::New(())) => return Ok(Taken::New(tx)),
                    Ok(Taken::Settled(())) => return Ok(Taken::Settled(tx)),
                    _ => {}
                }
                store.rollback(tx).await;
                Ok(match taken? {
                    Taken::GivenUp => Taken::GivenUp,
                    Taken::UnknownEnd => Taken::UnknownEnd,
                    Taken::Duplicate => Taken::Duplicate,
                    Taken::Changed | Taken::New(()) | Taken::Settled(()) => Taken::Changed,
                })
            }
            .await;
            match result {
                // Where an attempt was seen, the caller looks at it again.
                Ok(Taken::Changed)
                    if matches!(wanted, Wanted::New | Wanted::Settled)
                        && backoff.tries() < CLAIM_TRIES =>
                {
                    backoff.wait().await;
                }
                Err(error) if error.is_retryable() && backoff.tries() < CLAIM_TRIES => {
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    /// Claims the key, and says what was found if it is not to be worked.
    async fn taken<S: Store>(
        &self,
        store: &S,
        writer: &Writer<'_>,
        tx: &mut S::Tx,
        claim: Claim<'_>,
    ) -> Result<Taken<()>> {
        let is_new = |claimed: Claimed| matches!(claimed, Claimed::Keys(new) if new == [true]);
        if is_new(store.claim(tx, writer, &[claim]).await?) {
            return Ok(match self.marker {
                Wanted::Known => Taken::Changed,
                _ => Taken::New(()),
            });
        }
        let known = store.known(tx, &[(self.scope, self.key)]).await?;
        let Some(marker) = known.into_iter().next().flatten() else { return Ok(Taken::Changed) };
        Ok(match (marker.state, self.marker) {
            (MarkerState::Processed, _) => Taken::Duplicate,
            (MarkerState::Dead | MarkerState::Parked, _) => Taken::GivenUp,
            (MarkerState::Begun, Wanted::New) => Taken::UnknownEnd,
            (MarkerState::Begun, Wanted::Attempt(_) | Wanted::Known) => Taken::Changed,
            (MarkerState::Begun, Wanted::Settled) => {
                let claim = Claim { over: marker.attempt, ..claim };
                match is_new(store.claim(tx, writer, &[claim]).await?) {
                    true => Taken::Settled(()),
                    false => Taken::Changed,
                }
            }
        })
    }

    /// Whether a commit whose answer was lost had landed. Claiming the key again waits for the lost
    /// connection's transaction, if the server is still at it; then the marker tells who wrote it.
    async fn landed<S: Store>(&self, store: &S, attempt: Uuid, lost: &Error) -> Result<bool> {
        let writer = Writer::Direct { attempt };
        let again = Once::new(self.scope, self.key);
        let mut backoff = crate::backoff::Backoff::for_store();
        loop {
            let answer = match again.claimed(store, &writer).await {
                Ok(Taken::New(tx)) => {
                    store.rollback(tx).await;
                    return Ok(false);
                }
                Ok(_) => store.marker(self.scope, self.key).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(marker) => return Ok(marker.is_some_and(|it| it.attempt == Some(attempt))),
                Err(error) if error.is_retryable() && backoff.tries() < LOOKUPS => {
                    backoff.wait().await;
                }
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::UnknownCommit,
                        format!(
                            "{lost}, and the database cannot be asked whether it was kept: call \
                             again with the same event, which has its effect once"
                        ),
                    )
                    .with_source(error));
                }
            }
        }
    }
}

/// The answer to a claim of one key.
enum Taken<T> {
    New(T),
    /// The marker of an attempt was taken over.
    Settled(T),
    Duplicate,
    GivenUp,
    /// It is the key of an attempt that was begun.
    UnknownEnd,
    /// The marker is not the one that was seen before.
    Changed,
}

pub(crate) fn handler_broke() -> Error {
    Error::new(
        ErrorKind::HandlerBroke,
        "the handler ended the transaction it was lent (COMMIT or ROLLBACK): that is a bug in the \
         handler, remove the statement; nothing of this attempt was kept beside its marker",
    )
}

pub(crate) fn failed<S: Store>(failure: Failure) -> Error {
    let (panicked, is_unstored) = (failure.panicked(), failure.is_unstored());
    // Of a statement of idem's own the store has said what it is.
    let kept = failure.error.downcast_ref::<Error>().filter(|_| is_unstored);
    match kept.map(|error| (error.kind(), error.is_retryable())) {
        Some((ErrorKind::HandlerBroke, _)) => return handler_broke().with_source(failure.error),
        Some((_, true)) => {
            let message = "the database failed when the handler's result was to be stored";
            return Error::new(ErrorKind::Transient, message).with_source(failure.error);
        }
        _ => {}
    }
    let (kind, message) = match S::fault(failure.error()) {
        Fault::Transient | Fault::Lost => {
            (ErrorKind::Transient, "the database failed in the handler")
        }
        Fault::HandlerBroke => return handler_broke().with_source(failure.error),
        Fault::Handler if panicked => (ErrorKind::Handler, "the handler panicked"),
        Fault::Handler | Fault::Permanent if is_unstored => {
            (ErrorKind::Handler, "the handler's result was not stored")
        }
        Fault::Handler | Fault::Permanent => (ErrorKind::Handler, "the handler failed"),
    };
    Error::new(kind, message).with_source(failure.error)
}

fn refused(scope: &str, error: crate::key::KeyError) -> Error {
    Error::new(ErrorKind::Key, format!("scope {scope}: {error}"))
}
