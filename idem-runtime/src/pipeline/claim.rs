//! The claim of an attempt: each key once and in order, and what the answer decides.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::dead_letter::{LetterFilter, LetterState};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::key::Key;
use crate::lane::Held;
use crate::marker::{MarkerMode, MarkerState};
use crate::outcome::Decision;
use crate::packed::Digest;
use crate::pipeline::attempt::{Done, Ended, Trial};
use crate::pipeline::batch::{Batch, Kind, Task};
use crate::pipeline::outside::astray;
use crate::pipeline::packing::{Packing, digested, known, pack_late, stale};
use crate::pipeline::plan::{Intent, asked, intents};
use crate::pipeline::reuse::reused;
use crate::policy::OnFailure;
use crate::store::{Claim, Claimed, GivenUp, Store, Writer};

/// Tasks with their keys.
pub(crate) type Keyed<'a> = [(usize, &'a Key)];

/// How many events wait behind each message key of a scope that was asked about.
pub(crate) type Waiting = HashMap<(&'static str, Vec<u8>), u32>;

/// Decides what is intended with each task; where events wait, in agreement with the database.
pub(crate) async fn lock_parked<S: Store>(
    trial: &mut Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<Waiting, Ended> {
    let (group, tasks) = (trial.group, batch.tasks_of(&trial.events));
    done.intents = intents(group, batch, &tasks, &trial.holding.parked);
    let keys = asked(group, batch, &tasks, &done.intents, &trial.holding.parked);
    if keys.is_empty() {
        return Ok(Waiting::new());
    }
    let answers = group.store.parked(tx, held, &keys).await.map_err(Ended::Claim)?;
    let mut waiting = Waiting::new();
    for (&(scope, key), answer) in keys.iter().zip(&answers) {
        match answer {
            Some(count) => {
                waiting.insert((scope, key.to_vec()), *count);
            }
            // Released, and nothing waits any more. Nobody but this lane parks, so it stays so.
            None => trial.holding.parked.remove(scope, key),
        }
    }
    done.intents = intents(group, batch, &tasks, &trial.holding.parked);
    // Of what was released, somebody may have dropped or corrected a part since it was read: what
    // was corrected is read again, and nothing of its key overtakes it.
    let mut corrected = HashSet::new();
    for (index, task) in tasks.enumerate() {
        let event = &batch.events[batch.tasks[task].event];
        let Some(letter) = batch.letter(batch.tasks[task].event) else { continue };
        let letter = group.store.lock_letter(tx, letter).await.map_err(Ended::Claim)?;
        match letter {
            Some(letter) if letter.state == LetterState::Waiting => {
                let same = letter.event.payload == event.payload
                    && letter.event.headers.iter().eq(event.headers.iter());
                if !same || corrected.contains(&event.message_key) {
                    corrected.insert(event.message_key.clone());
                    done.intents[index] = Intent::Stay;
                }
            }
            _ => done.intents[index] = Intent::Stay,
        }
    }
    Ok(waiting)
}

/// Whether there is room for all events that are to wait; those that wait already are duplicates by
/// now.
pub(crate) fn full<S: Store>(
    trial: &Trial<'_, S>,
    batch: &Batch<S>,
    done: &Done,
    mut waiting: Waiting,
) -> Result<(), Ended> {
    let tasks = &batch.tasks[batch.tasks_of(&trial.events)];
    for (index, task) in tasks.iter().enumerate() {
        if done.intents[index] != Intent::Wait || done.decisions[index] != Decision::Parked {
            continue;
        }
        let handler = &trial.group.handlers[task.handler];
        let event = &batch.events[task.event];
        let Some(key) = event.message_key.as_deref() else { continue };
        let limit = match handler.on_failure() {
            OnFailure::ParkKey { limit } => limit,
            // Parked by a former release of the handler.
            _ => u32::MAX,
        };
        let count = waiting.entry((handler.scope, key.to_vec())).or_default();
        if *count >= limit {
            let error = Error::new(
                ErrorKind::Handler,
                format!(
                    "topic {}, partition {}, offset {}, scope {}: {limit} events wait behind a \
                     parked one of the same message key, and there is room for no more: replay or \
                     drop the parked dead letter, or raise the limit of `park_key`",
                    event.topic, event.partition, event.offset, handler.scope
                ),
            );
            return Err(Ended::Full(task.event, error));
        }
        *count += 1;
    }
    Ok(())
}

/// Inserts the markers, and decides what becomes of each task.
pub(crate) async fn claim<S: Store>(
    trial: &Trial<'_, S>,
    batch: &mut Batch<S>,
    held: &Held,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<(), Ended> {
    let group = trial.group;
    let all = &batch.tasks[batch.tasks_of(&trial.events)];
    let released = batch.kind != Kind::Delivered;
    let scope = |index: usize| group.handlers[all[index].handler].scope;
    let offset = |index: usize| batch.events[all[index].event].offset;
    let marks = &trial.holding.row.offset_marks;

    done.decisions = done.intents.iter().map(|intent| intent.decision()).collect();
    let windows = &trial.holding.windows;
    let packs = !released && group.is_packed(&held.id.topic);
    let mut keyed = Vec::with_capacity(if packs { 0 } else { all.len() });
    let mut packed = Vec::with_capacity(if packs { all.len() } else { 0 });
    // Those that have a row from now on, and may be packed: of a handler that keeps rows now and kept packed
    // markers before, or released with another key.
    let mut former = Vec::new();
    for (index, task) in all.iter().enumerate() {
        match (task.mode, task.key()) {
            _ if done.intents[index] == Intent::Stay => {}
            (MarkerMode::Packed, Some(key)) if !released => {
                packed.push(digested(windows, (index, task), key)?);
            }
            // What was released has a marker of its own, however others are kept; unless it has another key
            // by now, which may have been seen.
            (MarkerMode::Rows | MarkerMode::Packed, Some(key)) => {
                keyed.push((index, key));
                // An attempt that was begun is its marker's to decide.
                let looks = (!released || batch.was_rekeyed(task.event, key))
                    && task.outside.attempt().is_none();
                if let Some(open) = windows.of(task.handler).filter(|_| looks) {
                    former.push((index, (task.handler, open.digest(key))));
                }
            }
            // Without a key there is no marker. Should it be given up on, its letter is unique by its
            // origin.
            (MarkerMode::Rows | MarkerMode::Packed, None) => {}
            (MarkerMode::Offset, _) => {
                let handled = marks.get(scope(index)).is_some_and(|it| offset(index) < *it);
                if handled && !released {
                    done.decisions[index] = Decision::Duplicate;
                }
            }
        }
    }
    let packing = Packing::look(trial, (all, &batch.events), tx, done, packed).await?;
    keyed.extend(packing.rows(done));
    let mut seen = seen_before(trial, tx, &former).await?;
    if released {
        but_given_up(trial, all, tx, &mut seen).await?;
    }
    former.retain(|(index, _)| !seen.contains(index));
    if !released {
        below_floor(trial, (all, &batch.events), tx, done, &former).await?;
    }
    keyed.retain(|(index, _)| done.decisions[*index] != Decision::Stale);
    // Sorted, so that two batches that share keys take them in the same order and cannot deadlock.
    // The sort is stable: of equal keys the first in offset order leads.
    keyed.sort_by(|(a, left), (b, right)| (scope(*a), left).cmp(&(scope(*b), right)));
    let mut twins = Vec::new();
    keyed.dedup_by(|(later, its), (first, key)| {
        let same = scope(*later) == scope(*first) && its == key;
        if same {
            // If the first is processed, this one is a duplicate; if it fails, both are rolled
            // back and neither overtakes the other.
            done.decisions[*later] = Decision::Duplicate;
            twins.push((*first, *later));
        }
        same
    });
    let claims: Vec<_> = keyed
        .iter()
        .map(|&(index, key)| {
            let event = &batch.events[all[index].event];
            Claim {
                offset: Some(event.offset),
                correlation: group.rules.correlation.correlation_of(event),
                causation: group.rules.correlation.causation_of(event),
                state: match seen.contains(&index) {
                    true => MarkerState::Processed,
                    false => state(done.intents[index]),
                },
                // Of what was seen it is the first one's that would count, and nobody has that.
                fingerprint: all[index].fingerprint.filter(|_| !seen.contains(&index)),
                reclaim: released,
                over: all[index].outside.attempt(),
                ..Claim::new(scope(index), key)
            }
        })
        .collect();
    // The rows of packed markers fence and guard, too.
    let claims_rows = !claims.is_empty() || !packs;
    if claims_rows {
        let writer = Writer::Lane(held);
        let claim = group.store.claim(tx, &writer, &claims);
        let new = match claim.await.map_err(Ended::Claim)? {
            Claimed::Fenced => return Err(Ended::Moved),
            Claimed::Keys(new) => new,
        };
        for (&(index, _), new) in keyed.iter().zip(new) {
            if !new || seen.contains(&index) {
                done.decisions[index] = Decision::Duplicate;
            }
        }
    }
    if packs {
        packing.write(trial, (all, &batch.events), (held, claims_rows), tx, done).await?;
    }
    if released {
        pack_late(trial, (all, &batch.events), held, tx, done).await?;
    }
    if let Some((index, is_there)) = astray(trial, all, tx, done, &keyed).await? {
        let task = batch.tasks_of(&trial.events).start + index;
        return Err(batch.tasks[task].look_again(is_there));
    }
    keyed.extend(packing.asked());
    twins.extend(&packing.twins);
    let known = Known { tasks: all, events: &batch.events, keyed: &keyed, twins: &twins, released };
    if let Some((index, attempt)) = corrections(trial, known, tx, done).await? {
        let number = batch.tasks_of(&trial.events).start + index;
        let task = &mut batch.tasks[number];
        let handler = &group.handlers[task.handler];
        return Err(match handler.policy.unknown_end {
            Some(_) => task.look_again(true),
            None => task.meets_attempt(number, handler.scope, attempt),
        });
    }
    for index in &done.corrections {
        done.decisions[*index] = Decision::DeadLettered;
    }
    if !released && all.iter().any(|task| task.fingerprint.is_some()) {
        reused(trial, (all, &batch.events), tx, done, (&keyed, &twins)).await?;
    }
    Ok(())
}

/// Which of these are known to the windows that their handlers had before.
async fn seen_before<S: Store>(
    trial: &Trial<'_, S>,
    tx: &mut S::Tx,
    former: &[(usize, (usize, Digest))],
) -> Result<HashSet<usize>, Ended> {
    let mut sorted = former.to_vec();
    sorted.sort_by_key(|(_, (handler, _))| *handler);
    let digests: Vec<_> = sorted.iter().map(|(_, digest)| *digest).collect();
    let known = known(trial, tx, &digests).await?;
    let known = sorted.into_iter().zip(known).filter(|(_, known)| *known);
    Ok(known.map(|((index, _), _)| index).collect())
}

/// Leaves of these those that were processed: a window also knows what was given up on, whose marker is taken
/// over by who is worked under its key.
async fn but_given_up<S: Store>(
    trial: &Trial<'_, S>,
    tasks: &[Task],
    tx: &mut S::Tx,
    seen: &mut HashSet<usize>,
) -> Result<(), Ended> {
    let keyed = |index: &usize| Some((*index, tasks[*index].key()?));
    let keyed: Vec<_> = seen.iter().filter_map(keyed).collect();
    if keyed.is_empty() {
        return Ok(());
    }
    let scope = |index: usize| trial.group.handlers[tasks[index].handler].scope;
    let keys: Vec<_> = keyed.iter().map(|(index, key)| (scope(*index), *key)).collect();
    let given_up = trial.group.store.given_up(tx, &keys).await.map_err(Ended::Claim)?;
    for ((index, _), given_up) in keyed.into_iter().zip(given_up) {
        if given_up.is_some_and(|it| it.state.is_given_up()) {
            seen.remove(&index);
        }
    }
    Ok(())
}

/// Decides of events whose handlers kept packed markers before, and which the former windows do not know,
/// whether that can be because they have forgotten them.
async fn below_floor<S: Store>(
    trial: &Trial<'_, S>,
    (tasks, events): (&[Task], &[Event]),
    tx: &mut S::Tx,
    done: &mut Done,
    unknown: &[(usize, (usize, Digest))],
) -> Result<(), Ended> {
    let open = |handler: usize| trial.holding.windows.of(handler);
    let is_below = |index: usize, handler: usize| {
        open(handler).is_some_and(|open| events[tasks[index].event].offset < open.floor)
    };
    let below = unknown.iter().filter(|(index, (handler, _))| is_below(*index, *handler));
    let below: Vec<_> = below
        .filter_map(|(index, (handler, _))| Some((*index, *handler, tasks[*index].key()?)))
        .collect();
    if below.is_empty() {
        return Ok(());
    }
    let scope = |handler: usize| trial.group.handlers[handler].scope;
    let keys: Vec<_> = below.iter().map(|(_, handler, key)| (scope(*handler), *key)).collect();
    let markers = trial.group.store.known(tx, &keys).await.map_err(Ended::Claim)?;
    for ((index, handler, _), marker) in below.into_iter().zip(markers) {
        // One that has a row is decided by the claim.
        if let Some(open) = open(handler).filter(|_| marker.is_none()) {
            stale(open, (tasks, events), index, done)?;
        }
    }
    Ok(())
}

/// What was claimed: `keyed` leads, each followed by its `twins`.
struct Known<'a> {
    tasks: &'a [Task],
    events: &'a [Event],
    keyed: &'a Keyed<'a>,
    twins: &'a [(usize, usize)],
    released: bool,
}

/// Finds events that came under the key of a dead letter with another payload than its own: somebody
/// corrected it, and must not find the correction swallowed. Of several equal ones the first is kept.
///
/// Answers the first task whose key is of an attempt that was begun, and whose it is.
async fn corrections<S: Store>(
    trial: &Trial<'_, S>,
    Known { tasks, events, keyed, twins, released }: Known<'_>,
    tx: &mut S::Tx,
    done: &mut Done,
) -> Result<Option<(usize, Uuid)>, Ended> {
    let store = &trial.group.store;
    let scope = |index: usize| trial.group.handlers[tasks[index].handler].scope;
    let digest = |index: usize| events[tasks[index].event].digest();
    let twins_of =
        |first: usize| twins.iter().filter(move |(it, _)| *it == first).map(|(_, later)| *later);
    let (known, new): (Vec<_>, Vec<_>) =
        keyed.iter().partition(|(index, _)| done.decisions[*index] == Decision::Duplicate);
    if !twins.is_empty() && !released {
        for (first, _) in new {
            if matches!(done.decisions[first], Decision::DeadLettered | Decision::Parked) {
                let mut seen = HashSet::from([digest(first)]);
                done.corrections.extend(twins_of(first).filter(|it| seen.insert(digest(*it))));
            }
        }
    }
    if known.is_empty() {
        return Ok(None);
    }
    let keys: Vec<_> = known.iter().map(|(index, key)| (scope(*index), *key)).collect();
    let given_up = store.given_up(tx, &keys).await.map_err(Ended::Claim)?;
    let is_begun = |it: &Option<GivenUp>| it.is_some_and(|it| it.state == MarkerState::Begun);
    let begun = known.iter().zip(&given_up).filter(|(_, given_up)| is_begun(given_up));
    if let Some(&(first, key)) = begun.map(|(it, _)| it).min_by_key(|(index, _)| *index) {
        let marker = store.known(tx, &[(scope(first), key)]).await.map_err(Ended::Claim)?;
        let attempt = marker.into_iter().flatten().find_map(|it| it.attempt);
        return Ok(Some((first, attempt.unwrap_or_default())));
    }
    for ((first, key), given_up) in known.into_iter().zip(given_up) {
        if given_up.is_none() || released {
            continue;
        }
        // Also for an event that is at the place of the dead one: it may be of another log.
        let filter = LetterFilter::new().scope(scope(first)).key(key.as_str());
        let letters = store.letters(&filter).await.map_err(Ended::Claim)?;
        let mut seen: HashSet<_> = letters.iter().map(|letter| letter.digest).collect();
        let all = std::iter::once(first).chain(twins_of(first));
        done.corrections.extend(all.filter(|it| seen.insert(digest(*it))));
    }
    Ok(None)
}

/// What the marker of such a task says.
fn state(intent: Intent) -> MarkerState {
    match intent {
        Intent::Handle => MarkerState::Processed,
        Intent::Bury => MarkerState::Dead,
        Intent::Park | Intent::Wait | Intent::Stay => MarkerState::Parked,
    }
}
