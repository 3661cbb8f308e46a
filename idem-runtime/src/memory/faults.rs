//! The script of what goes wrong, and when.

use std::collections::VecDeque;

use super::data::Row;
use super::pause::{Pause, Pauses};
use super::state::Shared;
use crate::error::{Error, ErrorKind};

/// A step of the store that can be made to fail or to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// [`Store::check`](crate::Store::check).
    Check,
    /// [`Store::register`](crate::Store::register).
    Register,
    /// [`Store::keep_instance`](crate::Store::keep_instance).
    KeepInstance,
    /// The same, when it forgets other instances.
    ForgetInstances,
    /// [`Store::lanes`](crate::Store::lanes).
    Lanes,
    /// [`Store::has_lanes`](crate::Store::has_lanes).
    HasLanes,
    /// [`Store::open_topics`](crate::Store::open_topics).
    OpenTopics,
    /// [`Store::take`](crate::Store::take).
    Take,
    /// [`Store::read`](crate::Store::read).
    Read,
    /// [`Store::observe`](crate::Store::observe).
    Observe,
    /// [`Store::reposition`](crate::Store::reposition).
    Reposition,
    /// [`Store::release`](crate::Store::release).
    Release,
    /// [`Store::begin`](crate::Store::begin).
    Begin,
    /// [`Store::claim`](crate::Store::claim).
    Claim,
    /// [`Store::seal`](crate::Store::seal).
    Seal,
    /// [`Store::commit`](crate::Store::commit), before anything is kept.
    Commit,
    /// [`Store::marker`](crate::Store::marker).
    Marker,
    /// [`Store::rollback`](crate::Store::rollback), which answers `false` then.
    Rollback,
    /// [`Store::given_up`](crate::Store::given_up).
    GivenUp,
    /// [`Store::known`](crate::Store::known).
    Known,
    /// [`Store::keep_results`](crate::Store::keep_results).
    KeepResults,
    /// [`Store::take_back`](crate::Store::take_back).
    TakeBack,
    /// [`Store::give_up`](crate::Store::give_up).
    GiveUp,
    /// [`Store::parked`](crate::Store::parked).
    Parked,
    /// [`Store::released`](crate::Store::released).
    Released,
    /// [`Store::unpark`](crate::Store::unpark).
    Unpark,
    /// [`Store::note_attempt`](crate::Store::note_attempt).
    NoteAttempt,
    /// [`Store::forget_attempts`](crate::Store::forget_attempts).
    ForgetAttempts,
    /// [`Store::cut`](crate::Store::cut).
    Cut,
    /// [`Store::letters`](crate::Store::letters).
    Letters,
    /// [`Store::lock_letter`](crate::Store::lock_letter).
    LockLetter,
    /// [`Store::settle_letter`](crate::Store::settle_letter).
    SettleLetter,
    /// [`Store::history`](crate::Store::history).
    History,
    /// [`Store::unforwarded`](crate::Store::unforwarded).
    Unforwarded,
    /// [`Store::forwarded`](crate::Store::forwarded).
    Forwarded,
    /// [`Store::digest_key`](crate::Store::digest_key).
    DigestKey,
    /// [`Store::pack`](crate::Store::pack).
    Pack,
    /// [`Store::window`](crate::Store::window).
    Window,
    /// [`Store::packs`](crate::Store::packs).
    Packs,
    /// [`Store::runs`](crate::Store::runs).
    Runs,
    /// [`Store::runs_of`](crate::Store::runs_of).
    RunsOf,
    /// [`Store::in_runs`](crate::Store::in_runs).
    InRuns,
    /// [`Store::foreign`](crate::Store::foreign).
    Foreign,
    /// [`Store::foreign_heads`](crate::Store::foreign_heads).
    ForeignHeads,
    /// [`Store::packs_elsewhere`](crate::Store::packs_elsewhere).
    PacksElsewhere,
    /// [`Store::given_up_keys`](crate::Store::given_up_keys), and
    /// [`given_up_elsewhere`](crate::Store::given_up_elsewhere).
    GivenUpKeys,
    /// [`Store::repack`](crate::Store::repack).
    Repack,
    /// [`Store::add_run`](crate::Store::add_run).
    AddRun,
    /// [`Store::run_blocks`](crate::Store::run_blocks).
    RunBlocks,
    /// [`Store::extend_run`](crate::Store::extend_run).
    ExtendRun,
    /// [`Store::merge_runs`](crate::Store::merge_runs).
    MergeRuns,
    /// [`Store::sweep_runs`](crate::Store::sweep_runs).
    SweepRuns,
    /// [`Store::forget_packs`](crate::Store::forget_packs).
    ForgetPacks,
    /// [`Store::forget_gone`](crate::Store::forget_gone).
    ForgetGone,
    /// [`Store::forget_retired`](crate::Store::forget_retired).
    ForgetRetired,
    /// [`Store::note_mode`](crate::Store::note_mode).
    NoteMode,
    /// [`Store::note_digest_key`](crate::Store::note_digest_key).
    NoteDigestKey,
    /// [`Store::find_packed`](crate::Store::find_packed).
    FindPacked,
    /// [`Store::pack_direct`](crate::Store::pack_direct).
    PackDirect,
    /// [`Store::forget_marker`](crate::Store::forget_marker).
    ForgetMarker,
}

/// Makes a [`Memory`](super::Memory) fail, hang or lie about its next steps.
#[derive(Clone, Copy)]
pub struct Faults<'a> {
    shared: &'a std::sync::Arc<Shared>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(shared: &'a std::sync::Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next time the store comes to this point, it fails with an error of this kind. Called
    /// again, the time after that fails too.
    ///
    /// A commit that fails with [`ErrorKind::UnknownCommit`] is one that did not land; see
    /// [`lose_the_answer_of_a_commit`](Self::lose_the_answer_of_a_commit) for one that did.
    pub fn fail(&self, point: Point, kind: ErrorKind) {
        self.shared.change(|state| state.script.failures.push_back((point, kind)));
    }

    /// The next time the store comes to this point, it panics, as a bug in a store would.
    #[cfg(test)]
    pub(crate) fn panic(&self, point: Point) {
        self.shared.change(|state| state.script.panics.push(point));
    }

    /// The next time the store comes to this point ([`Point::GiveUp`] or [`Point::Unpark`]), it changes
    /// nothing and says that it did, as a store whose statement does not find its rows.
    #[cfg(test)]
    pub(crate) fn skip(&self, point: Point) {
        self.shared.change(|state| state.script.skips.push(point));
    }

    /// The next time the store comes to this point, it stays there until the pause is released.
    pub fn pause(&self, point: Point) -> Pause {
        let number = self.shared.change(|state| state.script.pauses.add(Some(point)));
        Pause::new(self.shared.clone(), number)
    }

    /// The next commit lands, but its answer is lost.
    pub fn lose_the_answer_of_a_commit(&self) {
        self.shared.change(|state| state.script.commits.push_back(CommitFault::Landed));
    }

    /// The next commit's answer is lost while the server is still at it: the caller is told at
    /// once, and the commit lands when the pause is released.
    pub fn lose_the_answer_of_a_slow_commit(&self) -> Pause {
        let number = self.shared.change(|state| {
            let number = state.script.pauses.add(None);
            state.script.commits.push_back(CommitFault::InFlight(number));
            number
        });
        Pause::new(self.shared.clone(), number)
    }

    /// A deferred constraint: each commit for whose rows (table and value) it returns an error
    /// fails with that error and keeps nothing.
    pub fn reject_commits(
        &self,
        reject: impl Fn(&[(&str, &str)]) -> Option<Error> + Send + Sync + 'static,
    ) {
        self.shared.change(|state| state.script.constraint = Some(Box::new(reject)));
    }

    /// Takes the deferred constraint away.
    pub fn accept_commits(&self) {
        self.shared.change(|state| state.script.constraint = None);
    }

    /// The database goes away: open transactions are lost, and everything fails until
    /// [`reconnect`](Self::reconnect).
    pub fn disconnect(&self) {
        self.shared.change(|state| {
            state.down = true;
            state.script.in_flight.clear();
            state.lose_open();
        });
    }

    /// The database is back.
    pub fn reconnect(&self) {
        self.shared.change(|state| state.down = false);
    }
}

type Constraint = Box<dyn Fn(&[(&str, &str)]) -> Option<Error> + Send + Sync>;

#[derive(Default)]
pub(super) struct Script {
    failures: VecDeque<(Point, ErrorKind)>,
    #[cfg(test)]
    panics: Vec<Point>,
    #[cfg(test)]
    skips: Vec<Point>,
    pub(super) pauses: Pauses,
    commits: VecDeque<CommitFault>,
    constraint: Option<Constraint>,
    /// Commits whose answer was lost before they landed: pause and transaction.
    in_flight: Vec<(u64, u64)>,
}

pub(super) enum CommitFault {
    Landed,
    InFlight(u64),
}

impl Script {
    /// Whether a panic is scripted for this point.
    #[cfg(test)]
    pub(super) fn panics(&mut self, point: Point) -> bool {
        let index = self.panics.iter().position(|it| *it == point);
        index.map(|index| self.panics.remove(index)).is_some()
    }

    /// Whether nothing is to be done at this point.
    #[cfg(test)]
    pub(super) fn skips(&mut self, point: Point) -> bool {
        let index = self.skips.iter().position(|it| *it == point);
        index.map(|index| self.skips.remove(index)).is_some()
    }

    /// The next failure that is scripted for this point.
    pub(super) fn failure(&mut self, point: Point) -> Option<Error> {
        let index = self.failures.iter().position(|(it, _)| *it == point)?;
        let (_, kind) = self.failures.remove(index)?;
        Some(Error::new(kind, format!("the test made {point:?} fail")))
    }

    pub(super) fn commit_fault(&mut self) -> Option<CommitFault> {
        self.commits.pop_front()
    }

    pub(super) fn rejection(&self, rows: &[Row]) -> Option<Error> {
        let rows: Vec<_> = rows.iter().map(|row| (&*row.table, &*row.value)).collect();
        self.constraint.as_ref().and_then(|reject| reject(&rows))
    }

    pub(super) fn set_in_flight(&mut self, pause: u64, tx: u64) {
        self.pauses.reach(pause);
        self.in_flight.push((pause, tx));
    }

    pub(super) fn is_in_flight(&self, tx: u64) -> bool {
        self.in_flight.iter().any(|(_, it)| *it == tx)
    }

    /// The transaction whose commit was waiting for this pause.
    pub(super) fn lands_with(&mut self, pause: u64) -> Option<u64> {
        let index = self.in_flight.iter().position(|(it, _)| *it == pause)?;
        Some(self.in_flight.swap_remove(index).1)
    }
}
