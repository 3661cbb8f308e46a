//! The windows of packed markers that the owner of a lane has in memory, and how they are loaded.
//!
//! A window is loaded from the database alone, after the lane was taken, and changes with confirmed
//! commits. Whoever changes what it was loaded from, moves the lane's revision with it, so that the owner
//! commits nothing with what it has, and loads it again.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::group::Registered;
use crate::key::Key;
use crate::lane::{Held, LaneId, Slice};
use crate::marker::MarkerMode;
use crate::packed::{
    Damaged, Digest, DigestKey, Filter, Foreign, Lack, Measure, Measured, Pack, PackRow, Run,
    RunFilter, Window, WindowId, WindowRow,
};
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::packing::Learnt;
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::pipeline::source::Seat;
use crate::pipeline::stats::Stats;
use crate::pipeline::stop::Stop;
use crate::pipeline::tend::{cool, damaged};
use crate::pipeline::widen::Widening;
use crate::policy;
use crate::store::Store;

/// How many rows are counted at once.
const HEADS: u32 = 4096;

/// How many runs are read at once: one that was merged has a filter of up to 40 MB.
const RUNS: u32 = 1;

/// How often it is said how far the loading is.
const PROGRESS: Duration = Duration::from_secs(1);

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
    /// Below it, what was seen may be forgotten; what becomes of an event from there.
    pub(crate) floor: i64,
    pub(crate) stale: Stale,
    /// Whether what was written under another layout is asked for, too; when it was looked at what there
    /// is of it, unless that is in doubt; and who is asked to look again.
    pub(crate) widens: bool,
    looked: Mutex<Option<Instant>>,
    seat: Arc<Seat>,
    pub(crate) stats: Arc<Stats>,
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

impl<S: Store> Lane<S> {
    /// Loads the windows of a lane, or of a slice of it, that was taken.
    ///
    /// How many partitions the topic has is asked once for all slices, so that they agree.
    pub(super) async fn load_windows(
        &self,
        holding: &mut Holding,
        partitions: &mut Option<i32>,
    ) -> Result<(), Tenure> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.asked(Stop::Finish) => Err(Tenure::Left),
            loaded = self.windows(holding, partitions) => {
                holding.windows = loaded.map_err(Tenure::Failed)?;
                Ok(())
            }
        }
    }

    async fn windows(&self, holding: &Holding, counted: &mut Option<i32>) -> Result<Windows> {
        let id = &holding.row.id;
        let mut windows = Vec::new();
        for handler in &self.group.handlers {
            let mode = handler.mode();
            if mode == MarkerMode::Offset || !handler.reads(&id.topic) {
                windows.push(None);
                continue;
            }
            let window =
                WindowId { lane: holding.row.number, scope: handler.scope, slice: holding.slice };
            // One that keeps rows has a window for as long as there is something packed.
            if mode == MarkerMode::Rows && !self.was_packed(&window).await? {
                windows.push(None);
                continue;
            }
            let partitions = match *counted {
                Some(partitions) => partitions,
                None => *counted.insert(self.source.partitions(&id.topic).await?),
            };
            if mode == MarkerMode::Rows && !self.has_packs(&window, partitions).await? {
                windows.push(None);
                continue;
            }
            let loading = Loading { lane: self, holding, handler, id: window, partitions };
            let open = Arc::new(loading.load().await?);
            let measured: Arc<dyn Measured> = Arc::<Open>::clone(&open);
            self.budget.ask(Arc::downgrade(&measured));
            windows.push(Some(open));
        }
        self.seat.counts_on(counted.unwrap_or(0));
        Ok(Windows(windows))
    }

    /// Whether the scope kept packed markers once.
    async fn was_packed(&self, window: &WindowId<'_>) -> Result<bool> {
        if !self.group.store.pack_heads(window, 0, 1).await?.is_empty() {
            return Ok(true);
        }
        match self.group.store.window(window).await {
            Ok(row) => Ok(row.switched.is_some()),
            // A store that keeps no packed markers had none.
            Err(error) if error.kind() == ErrorKind::Config => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether something is packed, here or under a former layout; or was, and was forgotten while Kafka
    /// could still deliver it, or because the scope was retired: then the lane stops while it is loaded.
    async fn has_packs(&self, window: &WindowId<'_>, partitions: i32) -> Result<bool> {
        let store = &self.group.store;
        let early = self.settings.policies.stale.is_some();
        let row = store.window(window).await?;
        Ok(row.is_forgotten
            || early && row.floor > 0
            || !store.pack_heads(window, 0, 1).await?.is_empty()
            || !store.foreign(window, partitions).await?.is_empty())
    }
}

/// A window that is being loaded.
struct Loading<'a, S: Store> {
    lane: &'a Lane<S>,
    holding: &'a Holding,
    handler: &'a Registered<S>,
    id: WindowId<'a>,
    partitions: i32,
}

impl<S: Store> Loading<'_, S> {
    async fn load(&self) -> Result<Open> {
        let store = &self.lane.group.store;
        let policies = &self.lane.settings.policies;
        let portions = self.lane.settings.portions;
        let page = portions.page;
        let row = store.window(&self.id).await?;
        let widens = policies.layout_changed == LayoutChanged::Widen;
        if !widens && let Some(foreign) = store.foreign(&self.id, self.partitions).await?.first() {
            return Err(self.changed(foreign));
        }
        if row.is_forgotten {
            return Err(self.forgotten());
        }
        let key = store.digest_key().await?;
        self.check_digest_key(&row, key).await?;
        let length = self.handler.policy.window.unwrap_or_default();
        let open = Open {
            window: Mutex::new(Window::new(&self.lane.budget, row.log, length.time)),
            key,
            scope: self.handler.scope,
            slice: self.id.slice,
            partitions: self.partitions,
            log: row.log,
            floor: row.floor,
            stale: policies.stale.unwrap_or(Stale::Stop),
            widens,
            looked: Mutex::new(Some(Instant::now())),
            seat: Arc::clone(&self.lane.seat),
            stats: Arc::clone(&self.lane.stats),
            had_rows: match row.switched {
                Some(_) if self.handler.mode() != MarkerMode::Packed => HadRows::No,
                // Twice, because those who still kept rows then may have done so for a while.
                Some(since) if since < length.time.saturating_mul(2) => HadRows::Lately,
                Some(_) => HadRows::Once,
                None => HadRows::No,
            },
            length,
            rows: Mutex::default(),
            doubted: AtomicBool::default(),
            cool: Mutex::default(),
            lacks: AtomicBool::default(),
            swept: AtomicBool::default(),
        };
        let held = Held { slice: None, ..self.holding.held() };
        if widens {
            let (group, budget) = (&*self.lane.group, &self.lane.budget);
            let most = portions.run;
            Widening { group, budget, held: &held, open: &open, most }.look().await?;
        }
        self.add_runs(&open, &held.id).await?;
        lock(&open.cool).extend(open.window().runs());
        let mut progress = Progress::new(self);
        let mut loaded = Vec::new();
        let mut rows = store.packs(&self.id, 0, page).await?;
        if rows.len() == page as usize {
            self.reserve(&open).await?;
        }
        while let Some(last) = rows.last() {
            let next = self.next(last.id);
            for mut row in rows {
                let pack = self.decode(&row)?;
                // One that was written from outside of the lane says nothing of how far it is.
                let its = row.log == open.log && !row.every_slice;
                open.window().load(&pack, &row, its);
                progress.loaded(u64::from(row.count));
                row.data = Vec::new();
                loaded.push(row);
            }
            cool(store, (&held, portions), &open, &mut loaded).await?;
            rows = next.await.unwrap_or_else(|error| {
                let message = "the loading of packed markers did not end";
                Err(Error::new(ErrorKind::Transient, message).with_source(error))
            })?;
        }
        // A lane for which they are of a former layout may have put some into runs meanwhile.
        self.add_runs(&open, &held.id).await?;
        if open.had_rows == HadRows::Once && !open.window().runs().is_empty() {
            self.see(&open).await?;
        }
        for key in store.given_up_keys(self.id.lane, self.id.scope).await? {
            let digest = open.digest(&key);
            open.window().learn_forever(digest);
        }
        progress.end(&open);
        Ok(open)
    }

    /// Reads which runs there are, besides those that are known.
    async fn add_runs(&self, open: &Open, lane: &LaneId) -> Result<()> {
        loop {
            let known = open.window().runs();
            let runs = self.lane.group.store.runs(&self.id, &known, RUNS).await?;
            if runs.is_empty() {
                return Ok(());
            }
            runs.iter().for_each(|run| open.add_run(run, lane));
        }
    }

    /// The rows behind this one, which are read while those before are decoded.
    fn next(&self, after: i64) -> JoinHandle<Result<Vec<PackRow>>> {
        let store = self.lane.group.store.clone();
        let id = WindowId { scope: self.handler.scope, ..self.id };
        let page = self.lane.settings.portions.page;
        tokio::spawn(async move { store.packs(&id, after, page).await })
    }

    /// How far what is in runs goes.
    async fn see(&self, open: &Open) -> Result<()> {
        let mut after = 0;
        loop {
            let heads = self.lane.group.store.pack_heads(&self.id, after, HEADS).await?;
            let Some(last) = heads.last() else { return Ok(()) };
            after = last.id;
            let its = heads.iter().filter(|row| row.log == open.log && !row.every_slice);
            open.window().saw(its.map(|row| row.last_offset).max());
        }
    }

    /// Makes room at once for what will be loaded, as far as there may be so much.
    async fn reserve(&self, open: &Open) -> Result<()> {
        let (mut count, mut after) = (0_usize, 0);
        loop {
            let heads = self.lane.group.store.pack_heads(&self.id, after, HEADS).await?;
            let Some(last) = heads.last() else { break };
            after = last.id;
            let in_memory = heads.iter().filter(|row| row.run.is_none());
            count += in_memory.map(|row| row.count as usize).sum::<usize>();
        }
        open.window().reserve(count);
        Ok(())
    }

    fn decode(&self, row: &PackRow) -> Result<Pack> {
        Pack::decode(row).map_err(|it| damaged(&self.holding.row.id, self.id.scope, &it))
    }

    /// Checks that the lane's digests were made with the key that the database has now, and records
    /// that if nobody has: with another one nothing would be found.
    async fn check_digest_key(&self, row: &WindowRow, key: DigestKey) -> Result<()> {
        let id = key.id();
        let recorded = match row.digest_key {
            Some(recorded) => recorded,
            None => {
                let held = Held { slice: None, ..self.holding.held() };
                let noted = self.lane.group.store.note_digest_key(&held, id).await?;
                noted.ok_or_else(|| {
                    let message = format!("{}: another owner took the lane", held.id);
                    Error::new(ErrorKind::Fenced, message)
                })?
            }
        };
        if recorded == id {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Migration,
            format!(
                "{}, scope {}: its packed markers were made with another digest key than the one in \
                 the table `store`, so that none of them would be found: the data was put into a \
                 schema that was made anew. Put the row of the table `store` back, too, as it was \
                 where the data is from (its `id` and its `digest_key`). If it is lost, and what is \
                 packed may be processed again, delete the lane's rows of `packs` and set its \
                 `digest_key_id` in `lanes` to null",
                self.holding.row.id, self.id.scope
            ),
        ))
    }

    /// What a lane stops with that has a handler whose scope somebody has retired.
    fn forgotten(&self) -> Error {
        Error::new(
            ErrorKind::Scope,
            format!(
                "{}: scope {} was retired (`.retire_scope(..)`), by another release as it seems, and \
                 what it had packed is deleted: nothing is worked here without it. Stop what still has \
                 its handler; to have the handler back, start it again without that word: it begins \
                 with no memory of what it has processed",
                self.holding.row.id, self.id.scope
            ),
        )
    }

    /// What a lane stops with whose keys may have been seen elsewhere.
    fn changed(&self, was: &Foreign) -> Error {
        let Foreign { id, partitions, slices, count, .. } = was;
        let now = self.id.slice.map_or(0, |slice| slice.of);
        let (what, before, after, back) = if *partitions == self.partitions {
            let (before, after) = (i32::from(*slices), i32::from(now));
            ("slices of the lane", before, after, "Put the number back; or go")
        } else {
            ("partitions of the topic", *partitions, self.partitions, "Go")
        };
        Error::new(
            ErrorKind::LayoutChanged,
            format!(
                "{}, scope {}: the number of {what} was {before} and is {after}, and packed markers \
                 find a key only where it was seen: {count} of partition {} may be of keys that come \
                 here now. {back} on with `.layout_changed(LayoutChanged::Widen)`, which asks for the \
                 markers of all of them until they have aged out (beside `.markers(Markers::Rows)`, \
                 should the handlers keep rows from now on)",
                self.holding.row.id, self.id.scope, id.partition
            ),
        )
    }
}

/// Says how far the loading is.
struct Progress<'a> {
    lane: &'a LaneId,
    scope: &'a str,
    loaded: u64,
    began: Instant,
    said: Instant,
}

impl<'a> Progress<'a> {
    fn new<S: Store>(loading: &'a Loading<'_, S>) -> Self {
        let began = Instant::now();
        let (lane, scope) = (&loading.holding.row.id, loading.id.scope);
        Self { lane, scope, loaded: 0, began, said: began }
    }

    fn loaded(&mut self, count: u64) {
        self.loaded += count;
        if self.said.elapsed() < PROGRESS {
            return;
        }
        self.said = Instant::now();
        tracing::info!(
            scope = self.scope,
            topic = %self.lane.topic,
            partition = self.lane.partition,
            digests = self.loaded,
            "packed markers are being loaded"
        );
    }

    fn end(&self, open: &Open) {
        let window = open.window();
        tracing::info!(
            scope = self.scope,
            topic = %self.lane.topic,
            partition = self.lane.partition,
            digests = self.loaded,
            bytes = window.bytes(),
            took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "packed markers are loaded"
        );
    }
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
            floor: 0,
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
