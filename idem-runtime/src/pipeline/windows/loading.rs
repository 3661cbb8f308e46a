//! Loading the windows of packed markers: from the database alone, after the lane was taken.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{HadRows, Open, Windows, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Registered;
use crate::lane::{Held, LaneId};
use crate::marker::MarkerMode;
use crate::packed::{DigestKey, Foreign, Measured, Pack, PackRow, Window, WindowId, WindowRow};
use crate::pipeline::holding::Holding;
use crate::pipeline::lane::{Lane, Tenure};
use crate::pipeline::policy::{LayoutChanged, Stale};
use crate::pipeline::stop::Stop;
use crate::pipeline::tend::{cool, damaged};
use crate::pipeline::widen::Widening;
use crate::policy;
use crate::store::Store;

/// How many rows are counted at once.
const HEADS: u32 = 4096;

/// How many runs are read at once: one that was merged has a filter of up to 40 MB.
const RUNS: u32 = 1;

/// How many pages are read ahead of what is put into memory.
const AHEAD: usize = 2;

/// How often it is said how far the loading is.
const PROGRESS: Duration = Duration::from_secs(1);

impl<S: Store> Lane<S> {
    /// Loads the windows of a lane, or of a slice of it, that was taken.
    ///
    /// How many partitions the topic has is asked once for all slices, so that they agree.
    pub(in crate::pipeline) async fn load_windows(
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

    /// Whether a scope that keeps rows kept packed markers once.
    async fn was_packed(&self, window: &WindowId<'_>) -> Result<bool> {
        let store = &self.group.store;
        let row = match store.window(window).await {
            Ok(row) => row,
            // A store that keeps no packed markers had none.
            Err(error) if error.kind() == ErrorKind::Config => return Ok(false),
            Err(error) => return Err(error),
        };
        if row.mode == Some(MarkerMode::Packed) {
            store.note_mode(window.scope, MarkerMode::Rows).await?;
            return Ok(true);
        }
        Ok(row.switched.is_some() || !store.pack_heads(window, 0, 1).await?.is_empty())
    }

    /// Whether something is packed, here or under a former layout; or was, and was forgotten while Kafka
    /// could still deliver it, or because the scope was retired: then the lane stops while it is loaded.
    async fn has_packs(&self, window: &WindowId<'_>, partitions: i32) -> Result<bool> {
        let store = &self.group.store;
        let row = store.window(window).await?;
        Ok(row.is_forgotten
            || row.is_early && row.floor > 0
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
        if self.handler.mode() == MarkerMode::Packed && row.mode == Some(MarkerMode::Rows) {
            store.note_mode(self.id.scope, MarkerMode::Packed).await?;
        }
        let key = store.digest_key().await?;
        self.check_digest_key(&row, key).await?;
        let length = self.length(&row);
        let open = Open {
            window: Mutex::new(Window::new(&self.lane.budget, row.log, length.time)),
            key,
            scope: self.handler.scope,
            slice: self.id.slice,
            partitions: self.partitions,
            log: row.log,
            first_log: row.first_log,
            floor: row.floor,
            handled_to: row.handled_to,
            stale: policies.stale.unwrap_or(Stale::Stop),
            widens,
            looked: Mutex::new(Some(Instant::now())),
            seat: Arc::clone(&self.lane.seat),
            stats: Arc::clone(&self.lane.stats),
            had_rows: match row.switched {
                _ if self.handler.mode() != MarkerMode::Packed => HadRows::No,
                // Instances of another release keep rows meanwhile; or it did before the database went back.
                _ if row.mode == Some(MarkerMode::Rows) => HadRows::Lately,
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
        let mut pages = self.pages();
        let mut is_first = true;
        loop {
            // Without the last page, which is empty, there may be more.
            let rows = pages.recv().await.unwrap_or_else(|| {
                let message = "the loading of packed markers did not end";
                Err(Error::new(ErrorKind::Transient, message))
            })?;
            if rows.is_empty() {
                break;
            }
            if std::mem::take(&mut is_first) && rows.len() == page as usize {
                self.reserve(&open).await?;
            }
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
        }
        // A lane for which they are of a former layout may have put some into runs meanwhile.
        self.add_runs(&open, &held.id).await?;
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

    /// The rows, which are read while those before are put into memory, some pages ahead; an empty page
    /// is the last.
    fn pages(&self) -> mpsc::Receiver<Result<Vec<PackRow>>> {
        let store = self.lane.group.store.clone();
        let id = WindowId { scope: self.handler.scope, ..self.id };
        let page = self.lane.settings.portions.page;
        let (sender, pages) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let mut after = 0;
            loop {
                let rows = store.packs(&id, after, page).await;
                let last = rows.as_ref().ok().and_then(|rows| rows.last()).map(|row| row.id);
                // Whoever loads may have gone.
                if sender.send(rows).await.is_err() {
                    return;
                }
                match last {
                    Some(last) => after = last,
                    None => return,
                }
            }
        });
        pages
    }

    /// How long the window is. A handler that keeps rows by now has what it packed for as long as it was to
    /// be when it did.
    fn length(&self, row: &WindowRow) -> policy::Window {
        let own = self.handler.policy.window.unwrap_or_default();
        match (self.handler.mode(), row.length) {
            (MarkerMode::Packed, _) | (_, None) => own,
            (_, Some(time)) => policy::Window::time(time),
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
