//! What the pipeline asks of a database.
//!
//! A store keeps markers, lanes and scopes, and opens the transaction that a handler writes
//! through. The pipeline decides; a store does one statement at a time what it is told, and tells
//! the truth about what happened. The conformance suite (module `conformance`, feature
//! `testing`) holds a store to this contract.

use std::error::Error as StdError;
use std::future::Future;

use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Failure};
use crate::key::{IntoKey, Key};
use crate::lane::{Held, LaneId, LaneRow, LogIdentity, Observed, Owner, Position};
use crate::marker::Marker;
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
pub trait Store: Lends<Self::Connection> + Clone + Send + Sync + 'static {
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

    /// Records which group owns which scopes. Nothing is recorded when something is refused.
    ///
    /// # Errors
    /// [`Scope`](crate::ErrorKind::Scope) when [`Registration::review`] refuses.
    fn register(
        &self,
        registration: &Registration<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The rows of all lanes of a group's topic.
    ///
    /// # Errors
    /// When the database fails.
    fn lanes(
        &self,
        group: &str,
        topic: &str,
    ) -> impl Future<Output = Result<Vec<LaneRow>, Error>> + Send;

    /// Creates the lanes of a topic in one transaction. A lane that exists stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    fn open_topic(&self, opening: &Opening<'_>) -> impl Future<Output = Result<(), Error>> + Send;

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
    fn begin(&self, writer: &Writer<'_>) -> impl Future<Output = Result<Self::Tx, Error>> + Send;

    /// Inserts markers for keys that are sorted and without duplicates, in that order, in one
    /// statement, and says for each whether it was new. It waits for other transactions that hold
    /// one of the keys.
    ///
    /// # Errors
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

    /// Undoes the transaction and keeps the connection. Failures are the connection's end and
    /// nothing else: what is not committed is not kept.
    fn rollback(&self, tx: Self::Tx) -> impl Future<Output = ()> + Send;

    /// The marker of a key, if it is there.
    ///
    /// # Errors
    /// When the database fails.
    fn marker(
        &self,
        scope: &str,
        key: &Key,
    ) -> impl Future<Output = Result<Option<Marker>, Error>> + Send;

    /// What kind of fault a handler's error is: the store looks for its driver's error among the
    /// sources.
    fn fault(error: &(dyn StdError + 'static)) -> Fault;

    /// Whether the key is marked as processed in this scope.
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
        async move { Ok(self.marker(scope, &key?).await?.is_some()) }
    }

    /// Marks the key as processed in this scope, with metadata of your choice, and says whether it
    /// was new.
    ///
    /// # Errors
    /// When the key is not one, or the database fails.
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
    /// What `effects` returns, as [`Handler`](crate::ErrorKind::Handler): nothing is kept then. And
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

/// Who writes a transaction.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Writer<'a> {
    /// The owner of a lane.
    Lane(&'a Held),
    /// A call without Kafka. Its number is kept in the marker, so that the caller of a commit with
    /// an unknown end can find out that it was its own.
    Direct {
        /// The number of this call.
        attempt: Uuid,
    },
}

/// A marker to insert.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Whose memory of the key it is.
    pub scope: &'a str,
    /// The key.
    pub key: &'a Key,
    /// The offset of the event, within the lane that writes.
    pub offset: Option<i64>,
    /// What the caller wants to keep beside it.
    pub metadata: Option<&'a Value>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claimed {
    /// For each claim, in order: whether the key was new.
    Keys(Vec<bool>),
    /// The lane has another token: nothing was inserted.
    Fenced,
}

/// Where the lane is after a batch.
#[derive(Debug, Clone)]
pub struct Seal<'a> {
    /// The next offset.
    pub position: Position,
    /// Scopes in offset mode, which have handled everything below the position.
    pub offset_scopes: &'a [&'a str],
}

/// The answer to a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The lane was moved; commit.
    Yes,
    /// The lane's row is not the writer's any more, or the transaction is not the one that was
    /// begun: roll back and read the row, which tells which of the two.
    No,
}

/// Where to move a lane, outside a batch.
#[derive(Debug, Clone)]
pub struct Reposition<'a> {
    /// The next offset.
    pub position: Position,
    /// The identity of the log the position belongs to.
    pub identity: &'a LogIdentity,
    /// Whether the log is another one, so that what offset mode remembers of the old one is void.
    pub new_log: bool,
}

/// The lanes of a topic to create.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The identity of the log.
    pub identity: &'a LogIdentity,
    /// Partitions and where each starts.
    pub lanes: &'a [(i32, Position)],
}

/// What kind of fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It passes by itself, and is not the handler's: a deadlock, a serialization failure, a lock
    /// timeout, a lost connection.
    Transient,
    /// The handler ended or broke its transaction.
    HandlerBroke,
    /// The handler's own.
    Handler,
}
