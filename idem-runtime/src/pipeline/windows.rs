//! The windows of packed markers that the owner of a lane has in memory.
//!
//! A window changes with confirmed commits. Whoever changes what it was loaded from, moves the lane's
//! revision with it, so that the owner commits nothing with what it has, and loads it again.

mod loading;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::key::Key;
use crate::lane::{Held, LaneId, Slice};
use crate::packed::{
    Damaged, Digest, DigestKey, Filter, Lack, Measure, Measured, PackRow, Run, RunFilter, Window,
    WindowId,
};
use crate::pipeline::packing::Learnt;
use crate::pipeline::policy::Stale;
use crate::pipeline::source::Seat;
use crate::pipeline::stats::Stats;
use crate::policy;

/// The windows of a lane, or of a slice of it: one for each handler that has one, by its index.
#[derive(Clone, Default)]
pub(crate) struct Windows(Vec<Option<Arc<Open>>>);

/// Whether a scope with packed markers kept them in rows before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HadRows {
    /// Never.
    No,
    /// So long ago that what they say is out of date, but for what is delivered again.
    Once,
    /// So lately that each new key may be in one.
    Lately,
}

/// A window at work.
pub(crate) struct Open {
    window: Mutex<Window>,
    key: DigestKey,
    pub(crate) scope: &'static str,
    pub(crate) slice: Option<Slice>,
    /// How many partitions the topic has.
    pub(crate) partitions: i32,
    /// The number of the lane's log.
    pub(crate) log: i32,
    /// The lowest number of one of which Kafka may still deliver something.
    pub(crate) first_log: i32,
    /// Below it, what was seen may be forgotten; what becomes of an event from there.
    pub(crate) floor: i64,
    pub(crate) stale: Stale,
    /// Whether what was written under another layout is asked for, too; when it was looked at what there
    /// is of it, unless that is in doubt; and who is asked to look again.
    pub(crate) widens: bool,
    looked: Mutex<Option<Instant>>,
    seat: Arc<Seat>,
    pub(crate) stats: Arc<Stats>,
    /// What lay below it was handled before the lane was taken.
    pub(crate) handled_to: i64,
    /// Whether the scope kept its markers in rows a while ago, which are asked, too.
    pub(crate) had_rows: HadRows,
    /// How long it keeps what it has.
    pub(crate) length: policy::Window,
    /// Its rows, without their contents, as far as whoever tends to it has read them.
    pub(crate) rows: Mutex<Vec<PackRow>>,
    doubted: AtomicBool,
    /// The runs whose digests are not in memory.
    cool: Mutex<BTreeSet<i64>>,
    /// Whether it was said that there is not memory enough for filters.
    lacks: AtomicBool,
    /// Whether nothing is left of merges that were broken off, or of what was merged.
    pub(crate) swept: AtomicBool,
}

impl Open {
    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }

    /// What was committed.
    pub(crate) fn learn(&self, learnt: &Learnt) {
        let mut window = self.window();
        match learnt.late {
            true => window.learn_late(&learnt.entries, learnt.at),
            false => window.learn(&learnt.entries, learnt.at),
        }
        for digest in &learnt.given_up {
            window.learn_forever(*digest);
        }
    }

    pub(crate) fn digest(&self, key: &Key) -> Digest {
        self.key.digest(key)
    }

    /// A run of its own that was found.
    pub(crate) fn add_run(&self, run: &Run, lane: &LaneId) {
        let filter = RunFilter::read(run.id, &run.filter, run.count);
        let added = self.window().put_run(run.id, filter, run.count);
        self.say(added, lane);
    }

    fn say(&self, added: Result<(), Damaged>, lane: &LaneId) {
        if let Err(damaged) = added {
            // The run is asked for each digest, which is slower and as exact.
            tracing::warn!(scope = self.scope, %lane, "{damaged}");
        }
    }

    /// A run of its own has these digests, which are ascending; none of its rows is newer than this time.
    pub(crate) fn cooled(
        &self,
        run: (i64, &[u8], u64),
        digests: &[Digest],
        newest: SystemTime,
        held: &Held,
    ) {
        let filter = RunFilter::read(run.0, run.1, run.2);
        let added = {
            // Nobody looks in between, when they are neither in memory nor known to be in the run.
            let mut window = self.window();
            window.evict(digests, newest);
            // After that, so that there is memory for its filter.
            window.put_run(run.0, filter, run.2)
        };
        self.say(added, &held.id);
        lock(&self.cool).insert(run.0);
    }

    /// A run has the digests of these others of its own, and took their place.
    pub(crate) fn merged(&self, of: &[(i64, u64)], id: i64, filter: Filter, count: u64) {
        // At once, so that nobody looks who finds neither.
        self.window().merge_runs(of, id, filter, count);
        let is_old = |run: i64| of.iter().any(|(it, _)| *it == run);
        {
            let mut cool = lock(&self.cool);
            cool.retain(|run| !is_old(*run));
            cool.insert(id);
        }
        for row in lock(&self.rows).iter_mut().filter(|row| row.run.is_some_and(is_old)) {
            row.run = Some(id);
        }
        // What is left of the others is deleted.
        self.swept.store(false, SeqCst);
    }

    /// What the window lacks in memory for filters, once for as long as it does.
    pub(crate) fn takes_lack(&self) -> Option<Lack> {
        let lack = self.window().lack();
        let said = self.lacks.swap(lack.is_some(), SeqCst);
        lack.filter(|_| !said)
    }

    /// Whether digests of this run of its own may be in memory, too.
    pub(crate) fn is_warm(&self, run: i64) -> bool {
        !lock(&self.cool).contains(&run)
    }

    /// A run was not there: it may be of a former layout, and out of date; or the database lost it.
    /// Somebody looks which there are now.
    pub(crate) fn doubt_runs(&self) {
        *lock(&self.looked) = None;
        self.doubt_rows();
        self.seat.tend();
    }

    /// The rows that were read may not be what there is.
    pub(crate) fn doubt_rows(&self) {
        self.doubted.store(true, SeqCst);
    }

    /// Whether that is in doubt; from now on it is not.
    pub(crate) fn takes_doubt_of_rows(&self) -> bool {
        self.doubted.swap(false, SeqCst)
    }

    /// Whether it is in doubt what there is of a former layout, or was looked at so long ago; from now on
    /// it is not.
    pub(crate) fn takes_doubt(&self, long: Duration) -> bool {
        let mut looked = lock(&self.looked);
        let due = looked.is_none_or(|at| at.elapsed() >= long);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    pub(crate) fn id(&self, lane: i64) -> WindowId<'static> {
        WindowId { lane, scope: self.scope, slice: self.slice }
    }
}

impl Measured for Open {
    fn measure(&self, measure: &mut Measure) {
        self.window().measure(measure);
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Open").field(&self.scope).finish()
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.0.iter().flatten();
        f.debug_list().entries(open.map(|it| (it.scope, it.window().len()))).finish()
    }
}

impl Windows {
    /// The window of a handler, if it has one.
    pub(crate) fn of(&self, handler: usize) -> Option<&Arc<Open>> {
        self.0.get(handler)?.as_ref()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Open>> {
        self.0.iter().flatten()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic half-way runs while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of whatever is older than this, now.
pub(crate) fn before(now: SystemTime, age: Duration) -> SystemTime {
    now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::lane::{LaneRow, LogIdentity, Position};
    use crate::packed::{Budget, Look};

    fn open(budget: &Arc<Budget>) -> (Open, Held) {
        let id = LaneId { group: "g".into(), topic: "t".into(), partition: 0 };
        let row = LaneRow::new(id.clone(), 1, Position::at(0), LogIdentity::default());
        let open = Open {
            window: Mutex::new(Window::new(budget, 0, Duration::from_secs(3600))),
            key: DigestKey::new([0; 16]),
            scope: "s",
            slice: None,
            partitions: 1,
            log: 0,
            first_log: 0,
            floor: 0,
            handled_to: 0,
            stale: Stale::Stop,
            widens: false,
            looked: Mutex::default(),
            seat: Arc::new(Seat::new(id, 1 << 20)),
            stats: Arc::default(),
            had_rows: HadRows::No,
            length: policy::Window::DEFAULT,
            rows: Mutex::default(),
            doubted: AtomicBool::default(),
            cool: Mutex::default(),
            lacks: AtomicBool::default(),
            swept: AtomicBool::default(),
        };
        (open, row.held())
    }

    /// Whether a digest is looked for on several threads, unlike in the tests of the pipeline, and known
    /// all the time while something is done.
    fn is_known_amid(open: &Open, digest: Digest, act: impl Fn()) -> bool {
        let (done, missed) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        let look = open.window().look_all(&[digest])[0];
                        missed.fetch_add(usize::from(look == Look::New), SeqCst);
                    }
                });
            }
            for _ in 0..20_000 {
                act();
            }
            done.store(true, SeqCst);
        });
        missed.into_inner() == 0
    }

    #[test]
    fn a_digest_that_goes_into_a_run_is_known_all_the_time() {
        let (open, held) = open(&Budget::new(1 << 30));
        let one = [open.digest(&Key::new("k").unwrap())];
        let filter = Filter::build(&one).to_bytes();
        let now = SystemTime::now();
        open.window().learn(&[(1, one[0])], now);
        assert!(is_known_amid(&open, one[0], || {
            open.cooled((7, &filter, 1), &one, now, &held);
            let mut window = open.window();
            window.learn(&[(1, one[0])], now);
            window.drop_run(7);
        }));
    }

    #[test]
    fn a_digest_in_a_run_that_is_merged_is_known_all_the_time() {
        let (open, held) = open(&Budget::new(1 << 30));
        let one = [open.digest(&Key::new("k").unwrap())];
        let filter = || Filter::build(&one);
        open.cooled((1, &filter().to_bytes(), 1), &one, SystemTime::now(), &held);
        let is_first = AtomicBool::new(true);
        assert!(is_known_amid(&open, one[0], || {
            let (old, new) = if is_first.fetch_xor(true, SeqCst) { (1, 2) } else { (2, 1) };
            open.merged(&[(old, 1)], new, filter(), 1);
        }));
        assert!(open.is_warm(2) && !open.is_warm(1));
        assert!(!open.swept.load(SeqCst), "what was merged is to be deleted");
    }

    #[test]
    fn that_memory_is_too_little_is_said_once_until_it_is_enough() {
        let (open, held) = open(&Budget::new(0));
        let one = [open.digest(&Key::new("k").unwrap())];
        let filter = Filter::build(&one).to_bytes();
        assert_eq!(open.takes_lack(), None);
        for _ in 0..2 {
            open.cooled((7, &filter, 1), &one, SystemTime::now(), &held);
            assert!(open.takes_lack().is_some());
            open.cooled((8, &filter, 1), &one, SystemTime::now(), &held);
            assert_eq!(open.takes_lack(), None);
            open.window().drop_run(7);
            open.window().drop_run(8);
            assert_eq!(open.takes_lack(), None);
        }
    }
}
