//! What the pipeline asks of a database.
//!
//! A store keeps markers, lanes and scopes, and opens the transaction that a handler writes
//! through. The pipeline decides; a store does one statement at a time what it is told, and tells
//! the truth about what happened. The conformance suite (module `conformance`, feature
//! `testing`) holds a store to this contract.

mod types;

use std::error::Error as StdError;
use std::future::Future;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use uuid::Uuid;

pub use self::types::{
    Claim, Claimed, Edit, Fault, GivenUp, Instance, Opening, Reposition, Seal, Sealed, Settlement,
    Terms, Writer,
};
use crate::dead_letter::{DeadLetter, LetterFilter, LetterNote, NewLetter};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::key::{IntoKey, Key};
use crate::lane::{AttemptRow, Held, LaneId, LaneRow, Observed, Owner};
use crate::marker::{Marker, MarkerState};
use crate::outcome::Outcome;
use crate::packed::{
    Digest, DigestKey, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock, RunPart,
    WindowId, WindowRow,
};
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
    /// one of the keys.
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
    /// is there already (the same scope, log, partition, offset and [digest](crate::Event::digest))
    /// stays as it is, but for two. One that waits and is now given up on itself takes over the new
    /// state and cause. One that is settled, where the new one [had a new
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

    /// What the digests of packed markers are made with: the same for as long as the data is.
    ///
    /// # Errors
    /// When the database fails, or the store keeps no packed markers.
    fn digest_key(&self) -> impl Future<Output = Result<DigestKey, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Records with a held lane which key its digests are made with, if nothing is recorded yet; answers
    /// what is recorded then, or `None` when the lane is not held any more. In a transaction of its own.
    ///
    /// # Errors
    /// When the database fails.
    fn note_digest_key(
        &self,
        _held: &Held,
        _id: [u8; 8],
    ) -> impl Future<Output = Result<Option<[u8; 8]>, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// The claim of a lane that knows by itself which keys are new: checks the lane's token without a
    /// lock, guards the transaction if a claim has not, and writes these rows of packed markers, none
    /// or several, of what is held or for every slice. Answers the transaction's time, or `None` when the lane has another token, and
    /// nothing was written.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    fn pack(
        &self,
        _tx: &mut Self::Tx,
        _held: &Held,
        _packs: &[NewPack<'_>],
    ) -> impl Future<Output = Result<Option<SystemTime>, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// What is known of a window as a whole.
    ///
    /// # Errors
    /// When the database fails.
    fn window(
        &self,
        _window: &WindowId<'_>,
    ) -> impl Future<Output = Result<WindowRow, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// The rows of a window that are in no run, in the order of their numbers from after this one:
    /// those of its slice, and those for every slice. None for a store without packed markers.
    ///
    /// # Errors
    /// When the database fails.
    fn packs(
        &self,
        _window: &WindowId<'_>,
        _after: i64,
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<PackRow>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// All rows of a window, in runs or not, in the order of their numbers from after this one,
    /// without their contents (`data` is empty).
    ///
    /// # Errors
    /// When the database fails.
    fn pack_heads(
        &self,
        _window: &WindowId<'_>,
        _after: i64,
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<PackRow>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The rows with these numbers, of the window's lane and scope, as far as they are there.
    ///
    /// # Errors
    /// When the database fails.
    fn packs_of(
        &self,
        _window: &WindowId<'_>,
        _rows: &[i64],
    ) -> impl Future<Output = Result<Vec<PackRow>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The runs of a window but for those with these numbers, in the order of their numbers, and so many
    /// at most. One without rows is of no window.
    ///
    /// # Errors
    /// When the database fails.
    fn runs(
        &self,
        _window: &WindowId<'_>,
        _but: &[i64],
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<Run>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The runs with these numbers, of whichever window, as far as they are there.
    ///
    /// # Errors
    /// When the database fails.
    fn runs_of(&self, _runs: &[i64]) -> impl Future<Output = Result<Vec<Run>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// For each of these whether the digest is in its run, in order; within a lane's transaction.
    ///
    /// # Errors
    /// [`Transient`](crate::ErrorKind::Transient) when one of the runs is not there, or the transaction
    /// does not see it: one that sees less of others may have begun before it was written. Otherwise
    /// when the database fails.
    fn in_runs(
        &self,
        _tx: &mut Self::Tx,
        _asked: &[(i64, Digest)],
    ) -> impl Future<Output = Result<Vec<bool>, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// What was packed in this scope when its topic had another number of partitions than this, in all
    /// lanes of the window's group and topic, or the window's lane another number of slices. Of rows for
    /// every slice, which count as of none, the partitions alone matter.
    ///
    /// # Errors
    /// When the database fails.
    fn foreign(
        &self,
        _window: &WindowId<'_>,
        _partitions: i32,
    ) -> impl Future<Output = Result<Vec<Foreign>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The rows of that, in runs or not, in the order of their numbers from after this one, without
    /// their contents (`data` is empty); but for those for every slice
    /// ([`packs_elsewhere`](Self::packs_elsewhere)).
    ///
    /// # Errors
    /// When the database fails.
    fn foreign_heads(
        &self,
        _window: &WindowId<'_>,
        _partitions: i32,
        _after: i64,
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<PackRow>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The rows for every slice of the other lanes of the window's group and topic, with their
    /// contents, in the order of their numbers from after this one: what is in them may have been
    /// delivered under another layout, whatever they say.
    ///
    /// # Errors
    /// When the database fails.
    fn packs_elsewhere(
        &self,
        _window: &WindowId<'_>,
        _after: i64,
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<PackRow>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The keys of this lane's events in the scope that were given up on and are not replayed: dead,
    /// parked or begun, each a marker of its own.
    ///
    /// # Errors
    /// When the database fails.
    fn given_up_keys(
        &self,
        _lane: i64,
        _scope: &str,
    ) -> impl Future<Output = Result<Vec<Key>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// The same of the other lanes of this one's group and topic.
    ///
    /// # Errors
    /// When the database fails.
    fn given_up_elsewhere(
        &self,
        _lane: i64,
        _scope: &str,
    ) -> impl Future<Output = Result<Vec<Key>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Puts one row in the place of others of a held lane, in a transaction of its own that waits for
    /// whoever takes the lane, and for none of its batches; answers whether that was done: not when the
    /// lane is no longer held, or one of the rows is not there any more, or is in a run.
    ///
    /// # Errors
    /// When the database fails.
    fn repack(
        &self,
        _held: &Held,
        _remove: &[i64],
        _insert: &Repack<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Writes a run with the digests of these rows, which are in it from then on, in a transaction of
    /// its own; answers whether that was done, as [`repack`](Self::repack) does. The rows are of the
    /// run's window alone: one that is for every slice is in no run, where other slices would not find
    /// it.
    ///
    /// The window may be of another lane than the held one, whoever has that: for rows of a former
    /// layout. The owner of that lane is not disturbed, but for a moment if it is being taken.
    ///
    /// # Errors
    /// When the database fails.
    fn add_run(
        &self,
        _held: &Held,
        _rows: &[i64],
        _run: &NewRun<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// The blocks of a run that begin after this digest, in their order; with `None` from the first one
    /// on. One from which everything was forgotten is empty.
    ///
    /// # Errors
    /// When the database fails.
    fn run_blocks(
        &self,
        _run: i64,
        _after: Option<Digest>,
        _limit: u32,
    ) -> impl Future<Output = Result<Vec<RunBlock>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Writes a part of a run that is to take the place of others, in a transaction of its own that waits
    /// for whoever takes the lane, and for none of its batches; answers whether that was done: not when
    /// the lane is no longer held, or the run has not as many digests as were written before.
    ///
    /// Until [`merge_runs`](Self::merge_runs) the run is unfinished and there for nobody: it is not
    /// listed, whoever asks it is told that it is not there, and no key is forgotten in it.
    ///
    /// # Errors
    /// When the database fails, or another run has the number.
    fn extend_run(
        &self,
        _held: &Held,
        _part: &RunPart<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Puts a run that was written in parts in the place of others: the rows that are in those are in
    /// this one from then on. They are unfinished then, and so as good as gone. In a transaction of its
    /// own, as [`extend_run`](Self::extend_run); answers whether that was done: not when the lane is no
    /// longer held, one of the others is not there any more or has another number of digests than when it
    /// was read, because one was forgotten, or what was written is not all there.
    ///
    /// # Errors
    /// When the database fails.
    fn merge_runs(
        &self,
        _held: &Held,
        _merged: &Merged<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Deletes some of the unfinished runs of a lane's scope, of whichever slice, or about so many blocks
    /// of them, and then those that have no row, if the lane is held; answers whether there was something
    /// to delete. Only the lane's owner writes unfinished runs, and calls this when it does not.
    ///
    /// # Errors
    /// When the database fails.
    fn sweep_runs(
        &self,
        _held: &Held,
        _scope: &str,
        _blocks: u32,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Ok(false))
    }

    /// Forgets these rows of a window, and runs of which no row is left, and raises the window's floor
    /// (a floor below the one there is stays), in a transaction of its own. The floor is of the latest
    /// log that the rows are of; without rows, of the lane's. Rows may be in runs. Otherwise as
    /// [`repack`](Self::repack).
    ///
    /// # Errors
    /// When the database fails.
    fn forget_packs(
        &self,
        _held: &Held,
        _scope: &str,
        _rows: &[i64],
        _floor: Option<i64>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Forgets rows of a lane whose partition its topic does not have any more, and runs of which no row
    /// is left (with the last row of the scope also unfinished ones), in a transaction of its own; answers whether that was done: not when the held lane,
    /// another one of the same group and topic, is no longer held, or one of the rows is not there.
    ///
    /// # Errors
    /// When the database fails.
    fn forget_gone(
        &self,
        _held: &Held,
        _lane: i64,
        _scope: &str,
        _rows: &[i64],
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

    /// Forgets what retired scopes of a group have packed: rows, runs and floors, in parts that are
    /// committed one after the other, and of those that were retired so long ago; `None` goes on with
    /// those of which it was begun, and begins with none. Answers the scopes that have nothing left now.
    ///
    /// Before anything is deleted it is recorded that the scope [is
    /// forgotten](WindowRow::is_forgotten), and lanes of topics of which one has something of it are moved
    /// by [`RELOAD`]: who still has a window of it commits nothing more with that. Nothing is deleted of a scope that
    /// was registered again.
    ///
    /// # Errors
    /// When the database fails; what is committed by then stays forgotten.
    fn forget_retired(
        &self,
        _group: &str,
        _after: Option<Duration>,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// All rows of the scope that have this digest, in whichever lane, each with what it has of it and
    /// of no other one ([`only`](crate::packed::only)): a key that comes again and again is in many
    /// large rows. Reads the scope's rows from one end to the other, and keeps one at a time.
    ///
    /// # Errors
    /// When the database fails, or a row is damaged.
    fn find_packed(
        &self,
        _scope: &str,
        _digest: Digest,
    ) -> impl Future<Output = Result<Vec<(LaneId, PackRow)>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Within a transaction without Kafka: takes the key of a lane's event for it. Whoever owns the
    /// lane commits nothing from here on before it has loaded its window again ([`RELOAD`]). Answers
    /// whether the digest was new in the lane; then a row for every slice with it is written, of this
    /// offset, and of as many partitions as the lane's newest row is, or the given one, should it have
    /// none.
    ///
    /// Where something was packed in the scope under another layout than with a lane for each partition,
    /// or the lanes are of topics with different ids (one was made anew, perhaps with fewer partitions),
    /// all of that is of all lanes of the topic: one of them may have the key, or may be asked for it.
    ///
    /// It locks the lanes' rows: letters and markers are locked before them.
    ///
    /// # Errors
    /// When the database fails.
    fn pack_direct(
        &self,
        _tx: &mut Self::Tx,
        _lane: i64,
        _offset: i64,
        _pack: &NewPack<'_>,
        _digest: Digest,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked::<Self>()))
    }

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
        std::future::ready(Err(unpacked::<Self>()))
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

/// How far the revisions of a lane, and of each of its slices, are moved by whoever changes its packed
/// markers from outside: so far that its owner always finds them ahead. One more would be taken for a
/// commit of its own whose answer was lost; and a few more for what it knows, should the database have
/// lost its last transactions.
pub const RELOAD: i64 = 1 << 32;

fn unpacked<S: Store>() -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the store `{}` keeps no packed markers: use `markers = \"rows\"`", S::NAME),
    )
}
