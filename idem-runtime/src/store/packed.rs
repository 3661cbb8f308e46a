//! Packed markers: what a store keeps for lanes that know by themselves which keys are new.

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::Store;
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::lane::{Held, LaneId};
use crate::marker::MarkerMode;
use crate::packed::{
    Digest, DigestKey, Floor, Foreign, Merged, NewPack, NewRun, PackRow, Repack, Run, RunBlock,
    RunPart, WindowId, WindowRow,
};

/// The part of a [`Store`] that keeps packed markers: rows of digests and runs of them.
///
/// A store without packed markers implements none of it: nothing is packed there then, and a group
/// that wants to is told so when it starts.
pub trait PackedMarkers: Sized + Sync {
    /// What the digests of packed markers are made with: the same for as long as the data is.
    ///
    /// # Errors
    /// When the database fails, or the store keeps no packed markers.
    fn digest_key(&self) -> impl Future<Output = Result<DigestKey, Error>> + Send {
        std::future::ready(Err(unpacked()))
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
        std::future::ready(Err(unpacked()))
    }

    /// Records that a scope is worked with markers in this form, where it is recorded with another one: by an
    /// instance of another release, or because the database was put back to before the scope was switched.
    /// Whoever works it later in the recorded form is told that it was switched just now
    /// ([`WindowRow::switched`]). In a transaction of its own.
    ///
    /// # Errors
    /// When the database fails.
    fn note_mode(
        &self,
        _scope: &str,
        _mode: MarkerMode,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// The claim of a lane that knows by itself which keys are new: checks the lane's token without a
    /// lock, guards the transaction if a claim has not, and writes these rows of packed markers, none
    /// or several, of what is held or for every slice. Answers the transaction's time, or `None` when
    /// the lane has another token, and nothing was written.
    ///
    /// # Errors
    /// As [`claim`](Store::claim).
    fn pack(
        &self,
        _tx: &mut <Self as Store>::Tx,
        _held: &Held,
        _packs: &[NewPack<'_>],
    ) -> impl Future<Output = Result<Option<SystemTime>, Error>> + Send
    where
        Self: Store,
    {
        std::future::ready(Err(unpacked()))
    }

    /// What is known of a window as a whole.
    ///
    /// # Errors
    /// When the database fails.
    fn window(
        &self,
        _window: &WindowId<'_>,
    ) -> impl Future<Output = Result<WindowRow, Error>> + Send {
        std::future::ready(Err(unpacked()))
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
        _tx: &mut <Self as Store>::Tx,
        _asked: &[(i64, Digest)],
    ) -> impl Future<Output = Result<Vec<bool>, Error>> + Send
    where
        Self: Store,
    {
        std::future::ready(Err(unpacked()))
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
        std::future::ready(Err(unpacked()))
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
        std::future::ready(Err(unpacked()))
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
        std::future::ready(Err(unpacked()))
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
        std::future::ready(Err(unpacked()))
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
    /// (a higher one that there is stays, and an early one stays early), in a transaction of its own. The
    /// floor is of the lane's log, unless all rows are of others that Kafka delivers nothing of any more
    /// ([`WindowRow::first_log`](crate::packed::WindowRow::first_log)): then of the latest of those. Rows
    /// may be in runs. Otherwise as [`repack`](Self::repack).
    ///
    /// # Errors
    /// When the database fails.
    fn forget_packs(
        &self,
        _held: &Held,
        _scope: &str,
        _rows: &[i64],
        _floor: Option<Floor>,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        std::future::ready(Err(unpacked()))
    }

    /// Forgets rows of a lane whose partition its topic does not have any more, and runs of which no row
    /// is left (with the last row of the scope also unfinished ones), in a transaction of its own;
    /// answers whether that was done: not when the held lane, another one of the same group and topic,
    /// is no longer held, or one of the rows is not there.
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
        std::future::ready(Err(unpacked()))
    }

    /// Forgets what retired scopes of a group have packed: rows, runs and floors, in parts that are
    /// committed one after the other, and of those that were retired so long ago; `None` goes on with
    /// those of which it was begun, and begins with none. Answers the scopes that have nothing left now.
    ///
    /// Before anything is deleted it is recorded that the scope [is
    /// forgotten](WindowRow::is_forgotten), and lanes of topics of which one has something of it are
    /// moved by [`RELOAD`]: who still has a window of it commits nothing more with that. Nothing is
    /// deleted of a scope that was registered again.
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
        _tx: &mut <Self as Store>::Tx,
        _lane: i64,
        _offset: i64,
        _pack: &NewPack<'_>,
        _digest: Digest,
    ) -> impl Future<Output = Result<bool, Error>> + Send
    where
        Self: Store,
    {
        std::future::ready(Err(unpacked()))
    }
}

/// How far the revisions of a lane, and of each of its slices, are moved by whoever changes its packed
/// markers from outside: so far that its owner always finds them ahead. One more would be taken for a
/// commit of its own whose answer was lost; and a few more for what it knows, should the database have
/// lost its last transactions.
pub const RELOAD: i64 = 1 << 32;

pub(super) fn unpacked() -> Error {
    let message = "the group's store keeps no packed markers: use `markers = \"rows\"`";
    Error::new(ErrorKind::Config, message)
}
