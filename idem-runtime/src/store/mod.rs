//! What the pipeline asks of a database.
//!
//! A store keeps markers, lanes and scopes, and opens the transaction that a handler writes
//! through. The pipeline decides; a store does one statement at a time what it is told, and tells
//! the truth about what happened. The conformance suite (module `conformance`, feature
//! `testing`) holds a store to this contract.

pub(crate) mod direct;
mod packed;
mod types;

use std::error::Error as StdError;
use std::future::Future;

use serde_json::Value;
use uuid::Uuid;

pub use self::packed::{PackedMarkers, RELOAD};
pub use self::types::{
    Claim, Claimed, Edit, Fault, GivenUp, Instance, NewLog, Opening, Reposition, Seal, Sealed,
    Settlement, Terms, Writer,
};
use crate::dead_letter::{DeadLetter, LetterFilter, LetterNote, NewLetter};
use crate::error::Error;
use crate::failure::Failure;
use crate::key::{IntoKey, Key};
use crate::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use crate::marker::{Marker, MarkerState};
use crate::outcome::Outcome;
use crate::scope::Registration;

/// A database that keeps markers beside effects.
///
/// Cheap to clone; clones share their connections.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store of idem",
    note = "the stores are `idem::postgres::Postgres` (feature `postgres`) and \
            `idem::sqlite::Sqlite` (feature `sqlite`)"
)]
pub trait Store: Lends<Self::Connection> + PackedMarkers + Clone + Send + Sync + 'static {
    /// An open transaction. Dropping it undoes it: the connection is closed, because a statement
    /// may still be running on it.
    type Tx: Send;
    /// The connection that handlers and closures write through.
    type Connection: Send;
    /// The store's name in the attribute and in messages: `postgres`, `sqlite`.
    const NAME: &'static str;

    /// Checks that the database can be reached and that its tables are those of this release, and
    /// returns the store's identity: a UUID made when the schema was, the same for as long as the
    /// data is.
    ///
    /// # Errors
    /// [`Connection`](crate::ErrorKind::Connection) when the database cannot be reached,
    /// [`Migration`](crate::ErrorKind::Migration) when the schema is missing, behind or ahead.
    fn check(&self) -> impl Future<Output = Result<Uuid, Error>> + Send;

    /// Records which group owns which scopes, and whether it is an instance of a broadcast group: a
    /// group that is none is not recorded as one any more, so that no other instance forgets it.
    /// Nothing is recorded when something is refused.
    ///
    /// # Errors
    /// [`Scope`](crate::ErrorKind::Scope) when [`Registration::review`] refuses.
    fn register(
        &self,
        registration: &Registration<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Notes that an instance of a broadcast group is alive, and forgets those of the same group that
    /// were silent for too long: their lanes, scopes, dead letters, and the markers of their scopes.
    /// An instance whose lanes are gone commits nothing more with them. Answers the groups of those
    /// that are forgotten now; what it takes many statements for may be committed in parts.
    ///
    /// An instance that is not recorded is recorded if its group has no scopes, as after it was
    /// forgotten.
    ///
    /// # Errors
    /// [`Instance::is_another`] when the group is recorded as an instance of another broadcast group, or
    /// is none and has scopes. Otherwise when the database fails.
    fn keep_instance(
        &self,
        instance: &Instance<'_>,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// The rows of all lanes of a group's topic.
    ///
    /// # Errors
    /// When the database fails.
    fn lanes(
        &self,
        group: &str,
        topic: &str,
    ) -> impl Future<Output = Result<Vec<LaneRow>, Error>> + Send;

    /// Whether the group has a lane, of whatever topic.
    ///
    /// # Errors
    /// When the database fails.
    fn has_lanes(&self, group: &str) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Creates the lanes of topics, which are sorted by their names, in one transaction. A lane that
    /// exists stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    fn open_topics(
        &self,
        openings: &[Opening<'_>],
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Creates the lanes of one topic.
    ///
    /// # Errors
    /// When the database fails.
    fn open_topic(&self, opening: &Opening<'_>) -> impl Future<Output = Result<(), Error>> + Send {
        self.open_topics(std::slice::from_ref(opening))
    }

    /// Gives the lane a new token, so that every owner before is fenced, and returns its row as it
    /// is after waiting for them; `None` when there is no such lane.
    ///
    /// # Errors
    /// When the database fails.
    fn take(
        &self,
        lane: &LaneId,
        owner: &Owner,
    ) -> impl Future<Output = Result<Option<LaneRow>, Error>> + Send;

    /// The row of a lane that is held; `None` when it is gone.
    ///
    /// # Errors
    /// When the database fails.
    fn read(&self, held: &Held) -> impl Future<Output = Result<Option<LaneRow>, Error>> + Send;

    /// Tokens and revisions of several lanes, in one statement, without waiting for any lock; and
    /// the owner's heartbeat. A lane that is gone is left out.
    ///
    /// # Errors
    /// When the database fails.
    fn observe(
        &self,
        owner: &Owner,
        lanes: &[i64],
    ) -> impl Future<Output = Result<Vec<Observed>, Error>> + Send;

    /// Moves a held lane to another position (compare and set, revision + 1). Answers whether the
    /// lane was still held.
    ///
    /// # Errors
    /// When the database fails.
    fn reposition(
        &self,
        held: &Held,
        to: &Reposition<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Records that the owner left cleanly. A lane that is no longer held stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    fn release(&self, held: &Held) -> impl Future<Output = Result<(), Error>> + Send;

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database fails.
    fn begin(
        &self,
        writer: &Writer<'_>,
        terms: &Terms,
    ) -> impl Future<Output = Result<Self::Tx, Error>> + Send;

    /// Inserts markers for keys that are sorted and without duplicates, in that order, in one
    /// statement, and says for each whether it was new. It waits for other transactions that hold
    /// one of the keys. Without keys it sets the transaction's guard all the same.
    ///
    /// # Errors
    /// [`Scope`](crate::ErrorKind::Scope) when a call without Kafka claims a key in a scope that is
    /// recorded as packed, and does not reclaim it: only the scope's lanes would see it.
    /// [`Transient`](crate::ErrorKind::Transient) on a deadlock, a lock timeout or a lost
    /// connection.
    fn claim(
        &self,
        tx: &mut Self::Tx,
        writer: &Writer<'_>,
        claims: &[Claim<'_>],
    ) -> impl Future<Output = Result<Claimed, Error>> + Send;

    /// The last statement of a transaction: moves the lane's position, if it and its revision are
    /// still the writer's, and lets the transaction commit.
    ///
    /// # Errors
    /// [`HandlerBroke`](crate::ErrorKind::HandlerBroke) when the transaction is not the one that
    /// was begun, or is aborted.
    fn seal(
        &self,
        tx: &mut Self::Tx,
        writer: &Writer<'_>,
        seal: Option<&Seal<'_>>,
    ) -> impl Future<Output = Result<Sealed, Error>> + Send;

    /// Commits.
    ///
    /// # Errors
    /// [`UnknownCommit`](crate::ErrorKind::UnknownCommit) when the answer did not arrive; any other
    /// kind says that nothing was committed.
    fn commit(&self, tx: Self::Tx) -> impl Future<Output = Result<(), Error>> + Send;

    /// Undoes the transaction and keeps the connection, and answers whether the connection was
    /// still good. Failures are the connection's end and nothing else: what is not committed is
    /// not kept.
    fn rollback(&self, tx: Self::Tx) -> impl Future<Output = bool> + Send;

    /// The marker of a key, if it is there.
    ///
    /// # Errors
    /// When the database fails.
    fn marker(
        &self,
        scope: &str,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Marker>, Error>> + Send;

    /// Of keys that a claim of this transaction has found to be known, those whose events were not
    /// processed; for each key in order. A statement of its own, after the claim: what the claim has
    /// waited for is seen.
    ///
    /// # Errors
    /// When the database fails.
    fn given_up(
        &self,
        tx: &mut Self::Tx,
        keys: &[(&str, &Key)],
    ) -> impl Future<Output = Result<Vec<Option<GivenUp>>, Error>> + Send;

    /// The markers of keys as they are committed now, or as this transaction has changed them; for each
    /// key in order, `None` where there is none. It waits for nobody.
    ///
    /// # Errors
    /// When the database fails.
    fn known(
        &self,
        tx: &mut Self::Tx,
        keys: &[(&str, &Key)],
    ) -> impl Future<Output = Result<Vec<Option<Marker>>, Error>> + Send;

    /// Within the transaction that has claimed them: keeps what their handlers returned.
    ///
    /// # Errors
    /// When the database fails.
    fn keep_results(
        &self,
        tx: &mut Self::Tx,
        results: &[(&str, &Key, &Value)],
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// In a transaction of its own: removes the marker of an attempt that was begun and has failed, if
    /// it is still that attempt's.
    ///
    /// # Errors
    /// When the database fails.
    fn take_back(
        &self,
        scope: &str,
        key: &Key,
        attempt: Uuid,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Writes dead letters of a lane, and what waits behind them, within its transaction. One that
    /// is there already (the same scope, log, partition, offset and [digest](NewLetter::digest))
    /// stays as it is, but for two. One that waits and is now given up on itself takes over the new
    /// state and cause, and belongs to this lane from now on; its event, what was edited of it, and its key
    /// stay. One that is settled, where the new one [had a new
    /// key](NewLetter::had_a_new_key), is opened again with these, and its history says so: its key was
    /// forgotten.
    ///
    /// A parked letter opens its message key in this lane for others to wait behind; a waiting one
    /// is counted there.
    ///
    /// # Errors
    /// When the database fails.
    fn give_up(
        &self,
        tx: &mut Self::Tx,
        held: &Held,
        letters: &[NewLetter<'_>],
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Locks these parked keys (sorted, without duplicates) of the lane until the transaction ends,
    /// and says for each how many events wait behind it; `None` for one that is not parked, or
    /// that was released and has nothing waiting.
    ///
    /// # Errors
    /// When the database fails.
    fn parked(
        &self,
        tx: &mut Self::Tx,
        held: &Held,
        keys: &[(&str, &[u8])],
    ) -> impl Future<Output = Result<Vec<Option<u32>>, Error>> + Send;

    /// The events of this lane that wait behind released keys, in the order of their offsets from
    /// this one on.
    ///
    /// # Errors
    /// When the database fails.
    fn released(
        &self,
        held: &Held,
        from: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, Error>> + Send;

    /// Within a transaction of the lane: these waiting events are worked. A released key that has
    /// nothing waiting any more is forgotten.
    ///
    /// # Errors
    /// When the database fails.
    fn unpark(
        &self,
        tx: &mut Self::Tx,
        held: &Held,
        letters: &[i64],
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Records what is known of the attempts at an event of a held lane, in a transaction of its
    /// own, and answers whether the lane is still held. What was recorded for the same scope and
    /// offset is replaced.
    ///
    /// # Errors
    /// When the database fails.
    fn note_attempt(
        &self,
        held: &Held,
        attempt: &AttemptRow,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Within a transaction of the lane: forgets what is known of attempts at these offsets, and,
    /// when `calm`, of the owners that died without progress.
    ///
    /// # Errors
    /// When the database fails.
    fn forget_attempts(
        &self,
        tx: &mut Self::Tx,
        held: &Held,
        offsets: &[i64],
        calm: bool,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Divides a held lane into so many slices (none for 0), keeping those it has already been
    /// divided into when their number is the same, and returns their revisions in order; `None`
    /// when the lane is no longer held.
    ///
    /// # Errors
    /// When the database fails.
    fn cut(
        &self,
        held: &Held,
        slices: u16,
    ) -> impl Future<Output = Result<Option<Vec<i64>>, Error>> + Send;

    /// Dead letters and waiting events, in the order of their numbers.
    ///
    /// # Errors
    /// When the database fails.
    fn letters(
        &self,
        filter: &LetterFilter,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, Error>> + Send;

    /// Locks a dead letter until the transaction ends, and returns it as it is then; its parked key
    /// is locked before it.
    ///
    /// # Errors
    /// When the database fails.
    fn lock_letter(
        &self,
        tx: &mut Self::Tx,
        id: i64,
    ) -> impl Future<Output = Result<Option<DeadLetter>, Error>> + Send;

    /// Within the transaction that has locked it: notes what was done with a dead letter, and what
    /// follows from that. One that is replayed, superseded or dropped releases its parked key.
    ///
    /// # Errors
    /// When the database fails.
    fn settle_letter(
        &self,
        tx: &mut Self::Tx,
        id: i64,
        settlement: &Settlement<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// What was done with a dead letter, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    fn history(&self, id: i64) -> impl Future<Output = Result<Vec<LetterNote>, Error>> + Send;

    /// Dead and parked letters of these lanes (by number) that were not forwarded yet, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    fn unforwarded(
        &self,
        lanes: &[i64],
        limit: u32,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, Error>> + Send;

    /// Notes that these letters were forwarded.
    ///
    /// # Errors
    /// When the database fails.
    fn forwarded(&self, letters: &[i64]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Forgets a key: its marker in whatever form, so that its event is new when it is delivered
    /// again. A lane whose window has it loads its window again before it commits anything
    /// ([`RELOAD`]), and so do all lanes of the topic that may have it in mind or have asked for it,
    /// because it is of a former layout, or in a row for every slice, or has a marker beside what is
    /// packed. The rows that it was in have other numbers then, or are gone. Dead letters of it that are
    /// settled count for nothing when it fails again. Answers whether there was something to forget.
    ///
    /// # Errors
    /// [`GivenUp`](crate::ErrorKind::GivenUp) when there is an open dead letter of it (replay or drop
    /// that first), or an attempt that was begun. Otherwise when the database fails.
    fn forget_marker(
        &self,
        _scope: &str,
        _key: &Key,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(packed::unpacked()))
    }

    /// The marker of a key in whatever form it is kept. Of a packed one there is its origin, and when
    /// it was processed; to find it the rows of the scope are read from one end to the other.
    ///
    /// Good for a look; not for a decision to act, because another process may be between the two.
    ///
    /// # Errors
    /// When the database fails, or what it has is damaged.
    fn find_marker(
        &self,
        scope: &str,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Marker>, Error>> + Send {
        crate::packed::find_marker(self, scope, key)
    }

    /// What kind of fault a handler's error is: the store looks for its driver's error among the
    /// sources.
    fn fault(error: &(dyn StdError + 'static)) -> Fault;

    /// Whether the key is marked as processed in this scope, in whatever form. One that was given up on
    /// is not, nor one of which an attempt was begun and has no end yet: [`marker`](Self::marker) tells
    /// them apart.
    ///
    /// Good for a look; not for a decision to act, because another process may be between the two.
    /// [`process_if_new`](Self::process_if_new) decides and acts in one.
    ///
    /// # Errors
    /// When the key is not one, or the database fails.
    fn is_processed(
        &self,
        scope: &str,
        key: impl IntoKey,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        let key = crate::process::checked(scope, key);
        async move {
            let marker = crate::packed::find_marker(self, scope, &key?).await?;
            Ok(marker.is_some_and(|marker| marker.state == MarkerState::Processed))
        }
    }

    /// Marks the key as processed in this scope, with metadata of your choice, and says whether it
    /// was new. An attempt with effects outside of the database whose end was not known is
    /// [`Settled`](Outcome::Settled) with it, at once: find out first that it has had its effect.
    ///
    /// # Errors
    /// [`GivenUp`](crate::ErrorKind::GivenUp) when its event is a dead letter. When the key is not one, or
    /// the database fails.
    fn mark_processed(
        &self,
        scope: &str,
        key: impl IntoKey,
        metadata: Option<Value>,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send {
        let key = crate::process::checked(scope, key);
        async move { crate::process::mark(self, scope, key?, metadata).await }
    }

    /// Runs `effects` once for this key in this scope. Marker and effects are committed together;
    /// of two concurrent calls one waits for the other.
    ///
    /// # Errors
    /// What `effects` returns, as [`Handler`](crate::ErrorKind::Handler): nothing is kept then.
    /// [`GivenUp`](crate::ErrorKind::GivenUp) when its event is a dead letter,
    /// [`UnknownEnd`](crate::ErrorKind::UnknownEnd) when an attempt was begun that has no end yet. And
    /// when the key is not one, or the database fails.
    fn process_if_new<T: Send, K: IntoKey>(
        &self,
        scope: &str,
        key: K,
        effects: impl AsyncFnOnce(&mut Self::Connection) -> Result<T, Failure>,
    ) -> impl Future<Output = Result<Outcome<T>, Error>> {
        let key = crate::process::checked(scope, key);
        async move { crate::process::closure(self, scope, key?, effects).await }
    }
}

/// A store that lends connections of type `C` to handlers.
#[diagnostic::on_unimplemented(
    message = "the store `{Self}` does not lend `{C}` to its handlers",
    label = "not a connection of the handler's store",
    note = "use the connection type of the store the attribute names: `&mut PgConnection` for \
            `store = \"postgres\"`, `&mut SqliteConnection` for `store = \"sqlite\"`"
)]
pub trait Lends<C: ?Sized>: Sized {
    /// The connection of a transaction.
    fn lend(tx: &mut <Self as Store>::Tx) -> &mut C
    where
        Self: Store;
}
