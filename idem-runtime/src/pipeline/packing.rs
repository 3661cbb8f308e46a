//! The claim of packed markers: the window answers which keys are new, and the batch's row is written.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::SystemTime;

use crate::dead_letter::{Cause, FailureClass};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::key::Key;
use crate::lane::Held;
use crate::marker::MarkerMode;
use crate::outcome::Decision;
use crate::packed::{Digest, Look, NewPack, Pack};
use crate::pipeline::attempt::{Done, Ended, Trial};
use crate::pipeline::batch::{Task, stopping};
use crate::pipeline::plan::Intent;
use crate::pipeline::policy::Stale;
use crate::pipeline::stats::Stats;
use crate::pipeline::windows::{HadRows, Open, Windows};
use crate::store::Store;

/// How many digests are asked for in one statement, each in a run.
const ASKED: usize = 1 << 14;

/// What a window learns when the attempt is committed.
#[derive(Debug)]
pub(crate) struct Learnt {
    /// The index of the handler.
    pub(crate) handler: usize,
    /// With their offsets.
    pub(crate) entries: Vec<(i64, Digest)>,
    /// Those of them whose events were given up on.
    pub(crate) given_up: Vec<Digest>,
    /// The time of the transaction.
    pub(crate) at: SystemTime,
    /// Whether they were delivered some time ago.
    pub(crate) late: bool,
}

/// A task with a key that is packed.
pub(crate) struct Digested<'a> {
    pub(crate) index: usize,
    pub(crate) handler: usize,
    pub(crate) key: &'a Key,
    pub(crate) digest: Digest,
    /// The last task of the attempt with the same key.
    last: Option<usize>,
    /// Whether the window knows it.
    known: bool,
    /// Whether somebody must ask what is known of it: it was given up on, or is in a row.
    asked: bool,
}

/// The packed tasks of an attempt: of equal keys the first, in the order of handlers and tasks.
#[derive(Default)]
pub(crate) struct Packing<'a> {
    leaders: Vec<Digested<'a>>,
    /// The others, each after its first.
    pub(crate) twins: Vec<(usize, usize)>,
}

/// A task with the digest of its key.
pub(crate) fn digested<'a>(
    windows: &Windows,
    (index, task): (usize, &'a Task),
    key: &'a Key,
) -> Result<Digested<'a>, Ended> {
    let Some(open) = windows.of(task.handler) else {
        let message = "the lane has no window for a handler with packed markers: a bug in idem";
        return Err(Ended::Claim(Error::new(ErrorKind::Config, message)));
    };
    let digest = open.digest(key);
    let handler = task.handler;
    Ok(Digested { index, handler, key, digest, last: None, known: false, asked: false })
}

/// Whether the windows know these, each of the handler that is named; what they cannot tell is asked of
/// the database.
pub(crate) async fn known<S: Store>(
    trial: &Trial<'_, S>,
    tx: &mut S::Tx,
    digests: &[(usize, Digest)],
) -> Result<Vec<bool>, Ended> {
    let windows = &trial.holding.windows;
    let mut known = vec![false; digests.len()];
    let mut asks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut start = 0;
    for run in digests.chunk_by(|a, b| a.0 == b.0) {
        let handler = run[0].0;
        if let Some(open) = windows.of(handler) {
            let window = open.window();
            let looked: Vec<Digest> = run.iter().map(|(_, digest)| *digest).collect();
            for (at, look) in (start..).zip(window.look_all(&looked)) {
                match look {
                    Look::Known => known[at] = true,
                    Look::New => {}
                    Look::Ask => asks.entry(handler).or_default().push(at),
                }
            }
        }
        start += run.len();
    }
    for (handler, places) in asks {
        let Some(open) = windows.of(handler) else { continue };
        let asked: Vec<(usize, (i64, Digest))> = {
            let window = open.window();
            let of = |at: usize| window.ask(digests[at].1).map(move |run| (at, run));
            let asked = places.iter().copied().flat_map(of);
            asked.map(|(at, run)| (at, (run, digests[at].1))).collect()
        };
        Stats::add(&open.stats.packed_asked, places.len());
        for asked in asked.chunks(ASKED) {
            let pairs: Vec<_> = asked.iter().map(|(_, pair)| *pair).collect();
            let answers = trial.group.store.in_runs(tx, &pairs).await;
            let answers = answers.map_err(|error| {
                if error.kind() == ErrorKind::Transient {
                    open.doubt_runs();
                }
                Ended::Claim(error)
            })?;
            for ((at, _), answer) in asked.iter().zip(answers) {
                known[*at] |= answer;
            }
        }
        let found = places.iter().filter(|at| known[**at]).count();
        Stats::add(&open.stats.packed_found, found);
    }
    Ok(known)
}

/// Whether a window knows this one.
pub(crate) async fn knows<S: Store>(
    store: &S,
    open: &Open,
    tx: &mut S::Tx,
    digest: Digest,
) -> Result<bool, Error> {
    let asked: Vec<_> = {
        let window = open.window();
        match window.look_all(&[digest])[..] {
            [Look::Ask] => window.ask(digest).map(|run| (run, digest)).collect(),
            [Look::Known] => return Ok(true),
            _ => return Ok(false),
        }
    };
    let answers = store.in_runs(tx, &asked).await.inspect_err(|error| {
        if error.kind() == ErrorKind::Transient {
            open.doubt_runs();
        }
    })?;
    Ok(answers.contains(&true))
}

impl<'a> Packing<'a> {
    /// Finds out which keys are new. What is known is decided with that.
    pub(crate) async fn look<S: Store>(
        trial: &Trial<'_, S>,
        (tasks, events): (&[Task], &[Event]),
        tx: &mut S::Tx,
        done: &mut Done,
        mut digested: Vec<Digested<'a>>,
    ) -> Result<Self, Ended> {
        // Stable: of equal keys the first in offset order leads.
        digested.sort_by_key(|it| it.handler);
        let twins = gather_twins(&mut digested);
        for (_, later) in &twins {
            done.decisions[*later] = Decision::Duplicate;
        }
        let digests: Vec<_> = digested.iter().map(|it| (it.handler, it.digest)).collect();
        let answers = known(trial, tx, &digests).await?;
        for (it, known) in digested.iter_mut().zip(answers) {
            // An attempt that somebody began under the key, and that is to be given up on, is decided by
            // its marker.
            it.known = known && tasks[it.index].outside.attempt().is_none();
        }
        let mut packing = Self { leaders: digested, twins };
        packing.ask_rows(trial, (tasks, events), tx).await?;
        let windows = &trial.holding.windows;
        for it in &mut packing.leaders {
            let Some(open) = windows.of(it.handler) else { continue };
            if it.known {
                done.decisions[it.index] = Decision::Duplicate;
                it.asked |= open.window().was_given_up(it.digest);
                continue;
            }
            while stale(open, (tasks, events), it.index, done)? {
                // It passes, so that the next one with its key is no duplicate of it.
                if !it.is_followed(&mut packing.twins) {
                    break;
                }
                done.decisions[it.index] = done.intents[it.index].decision();
            }
        }
        Ok(packing)
    }

    /// Where a scope kept its markers in rows: asks them. When that is long ago, only for what is
    /// delivered again, which may be from before.
    async fn ask_rows<S: Store>(
        &mut self,
        trial: &Trial<'_, S>,
        (tasks, events): (&[Task], &[Event]),
        tx: &mut S::Tx,
    ) -> Result<(), Ended> {
        let windows = &trial.holding.windows;
        let had_row = |it: &Digested<'_>| {
            let Some(open) = windows.of(it.handler).filter(|_| !it.known) else { return false };
            match open.had_rows {
                HadRows::No => false,
                HadRows::Lately => true,
                HadRows::Once => events[tasks[it.index].event].offset < open.handled_to,
            }
        };
        let asked: Vec<usize> =
            (0..self.leaders.len()).filter(|at| had_row(&self.leaders[*at])).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = asked
            .iter()
            .map(|at| {
                let it = &self.leaders[*at];
                (trial.group.handlers[it.handler].scope, it.key)
            })
            .collect();
        let markers = trial.group.store.known(tx, &keys).await.map_err(Ended::Claim)?;
        for (at, marker) in asked.into_iter().zip(markers) {
            if marker.is_some() {
                self.leaders[at].known = true;
                self.leaders[at].asked = true;
            }
        }
        Ok(())
    }

    /// Those that are new and given up on: each has a marker of its own, which a replay takes over.
    pub(crate) fn rows(&self, done: &Done) -> Vec<(usize, &'a Key)> {
        let given_up = |it: &&Digested<'a>| {
            !it.known
                && matches!(done.intents[it.index], Intent::Bury | Intent::Park | Intent::Wait)
        };
        self.leaders.iter().filter(given_up).map(|it| (it.index, it.key)).collect()
    }

    /// Those that are known, and of which something is to be asked.
    pub(crate) fn asked(&self) -> Vec<(usize, &'a Key)> {
        self.leaders.iter().filter(|it| it.asked).map(|it| (it.index, it.key)).collect()
    }

    /// Writes the rows of this attempt; where nothing was claimed, also fences and guards it.
    pub(crate) async fn write<S: Store>(
        &self,
        trial: &Trial<'_, S>,
        (tasks, events): (&[Task], &[Event]),
        (held, claimed): (&Held, bool),
        tx: &mut S::Tx,
        done: &mut Done,
    ) -> Result<(), Ended> {
        let windows = &trial.holding.windows;
        let mut written = Vec::new();
        for run in self.leaders.chunk_by(|a, b| a.handler == b.handler) {
            let Some(open) = windows.of(run[0].handler) else { continue };
            let seen_to = open.window().seen_to();
            let mut entries: Vec<(&Digested<'_>, i64)> = run
                .iter()
                .filter(|it| done.decisions[it.index] != Decision::Stale)
                .flat_map(|it| std::iter::once(it.index).chain(it.last).map(move |at| (it, at)))
                .map(|(it, index)| (it, events[tasks[index].event].offset))
                // A duplicate at a place of its own keeps its key for as long as that one.
                .filter(|(it, offset)| !it.known || seen_to.is_none_or(|to| *offset > to))
                .collect();
            if entries.is_empty() {
                continue;
            }
            entries.sort_unstable_by_key(|(_, offset)| *offset);
            let pack = Pack {
                entries: entries.iter().map(|(it, offset)| (*offset, it.digest)).collect(),
                spans: Vec::new(),
            };
            written.push((run[0].handler, open, pack.encode(), entries));
        }
        let packs: Vec<_> = written
            .iter()
            .filter_map(|(_, open, data, entries)| {
                Some(NewPack {
                    scope: open.scope,
                    partitions: open.partitions,
                    first_offset: entries.first()?.1,
                    last_offset: entries.last()?.1,
                    count: u32::try_from(entries.len()).ok()?,
                    every_slice: false,
                    data,
                })
            })
            .collect();
        if packs.is_empty() && claimed {
            return Ok(());
        }
        let packed = trial.group.store.pack(tx, held, &packs).await.map_err(Ended::Claim)?;
        let at = packed.ok_or(Ended::Moved)?;
        for (handler, _, _, entries) in written {
            let given_up = |(it, _): &&(&Digested<'_>, i64)| {
                let decision = done.decisions[it.index];
                it.asked || matches!(decision, Decision::DeadLettered | Decision::Parked)
            };
            let given_up = entries.iter().filter(given_up).map(|(it, _)| it.digest).collect();
            let entries = entries.iter().map(|(it, offset)| (*offset, it.digest)).collect();
            done.learnt.push(Learnt { handler, entries, given_up, at, late: false });
        }
        Ok(())
    }
}

/// Packs released events that are worked in this attempt, by their tasks, again: what was packed when
/// they were delivered, perhaps under another layout, may be out of date, and their markers do not say
/// any more that they were given up on.
pub(crate) async fn pack_late<S: Store>(
    trial: &Trial<'_, S>,
    (tasks, events): (&[Task], &[Event]),
    held: &Held,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<(), Ended> {
    let mut late = BTreeMap::<usize, Vec<(i64, Digest)>>::new();
    for (index, task) in tasks.iter().enumerate() {
        let (Some(open), Some(key)) = (trial.holding.windows.of(task.handler), task.key()) else {
            continue;
        };
        let is_worked = done.intents[index] == Intent::Handle
            && done.decisions[index] == Decision::Processed
            && task.mode == MarkerMode::Packed;
        if is_worked {
            let entry = (events[task.event].offset, open.digest(key));
            late.entry(task.handler).or_default().push(entry);
        }
    }
    for (handler, mut entries) in late {
        let Some(open) = trial.holding.windows.of(handler) else { continue };
        entries.sort_unstable_by_key(|(offset, _)| *offset);
        let pack = Pack { entries: entries.clone(), spans: Vec::new() };
        let (Some((first_offset, last_offset)), Ok(count)) =
            (pack.offsets(), u32::try_from(entries.len()))
        else {
            continue;
        };
        let data = pack.encode();
        let new = NewPack {
            scope: open.scope,
            partitions: open.partitions,
            first_offset,
            last_offset,
            count,
            every_slice: true,
            data: &data,
        };
        let packed = trial.group.store.pack(tx, held, &[new]).await.map_err(Ended::Claim)?;
        let at = packed.ok_or(Ended::Moved)?;
        let given_up = Vec::new();
        done.learnt.push(Learnt { handler, entries, given_up, at, late: true });
    }
    Ok(())
}

/// Leaves of equal keys the first, and answers the tasks of the others, each after its first's.
fn gather_twins(digested: &mut Vec<Digested<'_>>) -> Vec<(usize, usize)> {
    let mut places =
        Places::with_capacity_and_hasher(digested.len(), BuildHasherDefault::default());
    let (mut twins, mut lasts) = (Vec::new(), Vec::new());
    let mut leaders = 0;
    digested.retain(|it| {
        let place = *places.entry((it.handler, it.digest)).or_insert(leaders);
        let leads = place == leaders;
        if leads {
            leaders += 1;
        } else {
            lasts.push((place, it.index));
        }
        leads
    });
    for (place, index) in lasts {
        twins.push((digested[place].index, index));
        digested[place].last = Some(index);
    }
    twins
}

/// Where the first task of each key is.
type Places = HashMap<(usize, Digest), usize, BuildHasherDefault<Half>>;

/// Takes a digest for its own hash: nobody can choose one, as nobody knows the key it was made with.
#[derive(Default)]
struct Half(u64);

impl Hasher for Half {
    fn write(&mut self, _bytes: &[u8]) {}

    fn write_u128(&mut self, digest: u128) {
        self.0 ^= digest as u64;
    }

    fn write_usize(&mut self, handler: usize) {
        self.0 ^= handler as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Digested<'_> {
    /// Puts the next task with its key in its place; answers whether there is one.
    fn is_followed(&mut self, twins: &mut Vec<(usize, usize)>) -> bool {
        let Some(at) = twins.iter().position(|(first, _)| *first == self.index) else {
            return false;
        };
        let (before, next) = twins.remove(at);
        for (first, _) in twins.iter_mut().filter(|(first, _)| *first == before) {
            *first = next;
        }
        self.index = next;
        self.last = self.last.filter(|last| *last != next);
        true
    }
}

/// Decides what becomes of a new event, should it be one that may have been processed, and of which
/// nobody knows any more; answers whether it passes.
pub(crate) fn stale(
    open: &Open,
    (tasks, events): (&[Task], &[Event]),
    index: usize,
    done: &mut Done,
) -> Result<bool, Ended> {
    let number = tasks[index].event;
    let event = &events[number];
    // What waits is handled later, by a transaction that asks no window.
    if event.offset >= open.floor || !matches!(done.intents[index], Intent::Handle | Intent::Wait) {
        return Ok(false);
    }
    let why = "it lies below the floor of the window of packed markers: whether it was processed is \
               not known any more";
    match open.stale {
        Stale::Stop => {
            let why = format!(
                "{why}. Say with `.stale(Stale::Skip)` or `.stale(Stale::DeadLetter)` what becomes of \
                 such events"
            );
            return Err(Ended::Stop(number, stopping(event, open.scope, &why, ErrorKind::Stopped)));
        }
        Stale::Skip => done.decisions[index] = Decision::Stale,
        Stale::DeadLetter => {
            done.intents[index] = Intent::Bury;
            done.decisions[index] = Decision::DeadLettered;
            let cause = Cause {
                class: FailureClass::Stale,
                permanent: true,
                error: why.to_owned(),
                attempts: 0,
                first_failed_at: SystemTime::now(),
            };
            done.stale.push((index, cause));
        }
    }
    Ok(done.decisions[index] == Decision::Stale)
}
