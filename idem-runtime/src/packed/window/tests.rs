use std::collections::{HashMap, HashSet};

use super::*;
use crate::packed::asked::Filters;
use crate::packed::row;
use crate::random::Random;

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn digest(random: &mut Random) -> Digest {
    let mut word = || random.below(1 << 32) as u128;
    Digest(word() << 96 | word() << 64 | word() << 32 | word())
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn window() -> Window {
    Window::new(&Budget::new(usize::MAX), 3, WEEK)
}

fn row_of(pack: &Pack, log: i32, last_at: SystemTime) -> PackRow {
    let (first_offset, last_offset) = pack.offsets().unwrap_or_default();
    PackRow {
        id: 1,
        lane: 1,
        slice: None,
        every_slice: false,
        partitions: 12,
        log,
        first_offset,
        last_offset,
        count: u32::try_from(pack.entries.len()).unwrap(),
        first_at: last_at,
        last_at,
        run: None,
        data: pack.encode(),
    }
}

fn filter(digests: impl IntoIterator<Item = Digest>) -> Vec<u8> {
    Filter::build(&digests.into_iter().collect::<Vec<_>>()).to_bytes()
}

/// What a window must know, said plainly.
struct Model {
    /// The length of an era.
    era: u64,
    oldest: u64,
    /// Each digest with its era.
    memory: HashMap<Digest, u64>,
    forever: HashSet<Digest>,
    runs: HashMap<i64, HashSet<Digest>>,
    /// Runs of which every digest is asked.
    blind: HashSet<i64>,
}

impl Model {
    fn era(&self, seconds: u64) -> u64 {
        (1_700_000_000 + seconds) / self.era
    }

    /// What comes late is as old as the oldest that was not forgotten.
    fn learn(&mut self, digest: Digest, seconds: u64) {
        let era = self.era(seconds).max(self.oldest);
        let known = self.memory.entry(digest).or_insert(era);
        *known = era.max(*known);
    }

    fn evict(&mut self, seconds: u64) {
        self.oldest = self.era(seconds).max(self.oldest);
        self.memory.retain(|_, era| *era >= self.oldest);
    }

    /// What the window says of these digests is true; answers of how many it does not know whether they
    /// are in a run, and they are in none.
    fn check(&self, window: &Window, digests: &[Digest]) -> usize {
        let looks = window.look_all(digests);
        let mut guesses = 0;
        for (digest, look) in digests.iter().zip(looks) {
            assert_eq!(window.look(*digest), look);
            let known = self.memory.contains_key(digest) || self.forever.contains(digest);
            let runs: Vec<i64> =
                self.runs.iter().filter(|(_, it)| it.contains(digest)).map(|(id, _)| *id).collect();
            let asked: Vec<i64> = window.ask(*digest).collect();
            assert!(runs.iter().chain(&self.blind).all(|id| asked.contains(id)));
            let expected = match (known, asked.is_empty()) {
                (true, _) => Look::Known,
                (false, true) => Look::New,
                (false, false) => Look::Ask,
            };
            assert_eq!(look, expected, "{digest:?}");
            guesses += usize::from(look == Look::Ask && runs.is_empty() && self.blind.is_empty());
        }
        guesses
    }
}

#[test]
fn a_window_knows_what_a_plain_model_knows_after_any_operations() {
    for seed in 0..6 {
        let random = &mut Random(seed);
        let length = Duration::from_secs(random.pick(&[60, 512 * 40, 512 * 1181]));
        let budget = Budget::new(random.pick(&[0, 60_000, usize::MAX]));
        let mut window = Window::new(&budget, 3, length);
        let era = (length.as_secs() / 512).max(1);
        let mut model = Model {
            era,
            oldest: 0,
            memory: HashMap::new(),
            forever: HashSet::new(),
            runs: HashMap::new(),
            blind: HashSet::new(),
        };
        let mut seen: Vec<Digest> = Vec::new();
        let mut seen_to = None;
        let (mut now, mut guesses, mut run) = (0, 0, 0);
        for _ in 0..150 {
            now += random.below(20) as u64 * era / 4;
            let entries: Vec<(i64, Digest)> = (0..random.below(50))
                .map(|_| {
                    let again = !seen.is_empty() && random.below(10) == 0;
                    let digest = if again { random.pick(&seen) } else { digest(random) };
                    (random.below(100_000) as i64, digest)
                })
                .collect();
            match random.below(8) {
                0..=2 => {
                    window.learn(&entries, at(now));
                    entries.iter().for_each(|(_, it)| model.learn(*it, now));
                    seen_to = seen_to.max(entries.iter().map(|it| it.0).max());
                }
                3 => {
                    let pack = Pack { entries: entries.clone(), spans: Vec::new() };
                    let older = Pack { entries: vec![(7, digest(random))], spans: Vec::new() };
                    let merged = Pack::merge([(at(now / 2), older), (at(now), pack)]);
                    let log = random.pick(&[2, 3]);
                    let row = row_of(&merged, log, at(now));
                    window.reserve(random.below(2) * merged.entries.len());
                    window.load(&Pack::decode(&row).unwrap(), &row, true);
                    for (place, (_, digest)) in merged.entries.iter().enumerate() {
                        model.learn(*digest, if place == 0 { now / 2 } else { now });
                    }
                    if log == 3 {
                        seen_to = seen_to.max(Some(row.last_offset));
                    }
                }
                4 => {
                    let before = now.saturating_sub(random.below(200) as u64 * era / 8);
                    let all = model.memory.len();
                    model.evict(before);
                    let evicted = window.evict_older_than(at(before));
                    assert_eq!(evicted, all - model.memory.len());
                }
                5 => {
                    // The oldest become a run, and leave the memory.
                    run += 1;
                    let before = now.saturating_sub(random.below(40) as u64 * era);
                    let old = |it: &(&Digest, &u64)| *it.1 < model.era(before);
                    let moved: HashSet<Digest> =
                        model.memory.iter().filter(old).map(|it| *it.0).collect();
                    let mut bytes = filter(moved.iter().copied());
                    let damaged = random.below(5) == 0;
                    if damaged {
                        let at = random.below(bytes.len());
                        bytes[at] ^= 1;
                    }
                    let added = window.add_run(run, &bytes, moved.len() as u64);
                    assert_eq!(added.is_err(), damaged);
                    let held = window.runs.last().is_some_and(|run| run.filter.is_some());
                    assert!(held || damaged || budget.used() + bytes.len() > budget.limit());
                    if !held {
                        model.blind.insert(run);
                    }
                    window.evict_older_than(at(before));
                    model.evict(before);
                    model.runs.insert(run, moved);
                }
                6 if random.below(3) == 0 => {
                    let id = 1 + random.below(10) as i64;
                    window.drop_run(id);
                    model.runs.remove(&id);
                    model.blind.remove(&id);
                }
                _ => {
                    if let Some((_, digest)) = entries.first() {
                        window.learn_forever(*digest);
                        model.forever.insert(*digest);
                    }
                }
            }
            seen.extend(entries.iter().map(|(_, it)| *it).take(5));
            let mut asked: Vec<Digest> = seen.iter().rev().take(100).copied().collect();
            asked.extend((0..20).map(|_| digest(random)));
            asked.extend(model.runs.values().filter_map(|it| it.iter().next()));
            guesses += model.check(&window, &asked);
            assert_eq!(window.len(), model.memory.len());
            assert_eq!(window.seen_to(), seen_to);
            assert_eq!(window.bytes(), budget.used());
            assert_eq!(window.is_over_budget(), budget.used() > budget.limit());
        }
        assert!(guesses < 500, "{guesses} of 18000");
        let everything: Vec<Digest> = model.memory.keys().copied().collect();
        model.check(&window, &everything);
        drop(window);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_run_without_a_filter_is_asked_for_every_digest() {
    let mut window = Window::new(&Budget::new(0), 0, WEEK);
    assert!(window.is_over_budget(), "an empty window is not for nothing");
    window.add_run(5, &filter([Digest(1)]), 1).unwrap();
    assert_eq!(window.look(Digest(2)), Look::Ask);
    assert_eq!(window.ask(Digest(2)).collect::<Vec<_>>(), [5]);
    window.learn(&[(0, Digest(2))], at(0));
    assert_eq!(window.look(Digest(2)), Look::Known);
}

#[test]
fn runs_of_a_former_layout_are_asked_too_and_their_filters_are_there_once() {
    let budget = Budget::new(200);
    let filters = Filters::default();
    let run = |id, digests: &[Digest]| row::Run {
        id,
        count: digests.len() as u64,
        filter: filter(digests.iter().copied()),
    };
    let mut windows = [Window::new(&budget, 0, WEEK), Window::new(&budget, 0, WEEK)];
    let before = budget.used();
    for window in &mut windows {
        window.ask_also(vec![filters.add(&budget, &run(7, &[ONE])).unwrap()]);
        assert_eq!((window.look(ONE), window.look(TWO)), (Look::Ask, Look::New));
        assert_eq!(window.foreign.len(), 1);
    }
    let filter = budget.used() - before;
    assert!((1..=100).contains(&filter), "one block for both: {filter}");
    // There is no more room: it is asked for every digest.
    let blind = filters.add(&budget, &run(8, &[TWO])).unwrap();
    let one = windows[0].asked(7).unwrap();
    assert!(windows[0].asked(8).is_none());
    windows[0].ask_also(vec![one, blind]);
    assert_eq!(windows[0].ask(ONE).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(windows[0].ask(TWO).collect::<Vec<_>>(), [8]);
    assert_eq!(windows[1].look(TWO), Look::New);
    // With the last who asks it goes.
    windows[0].ask_also(Vec::new());
    assert_eq!(budget.used(), before + filter);
    windows[1].ask_also(Vec::new());
    assert_eq!((budget.used(), windows[1].look(ONE)), (before, Look::New));
    // Fewer than its run has: it would miss some. More: they were forgotten since.
    let short = row::Run { count: 2, ..run(9, &[ONE]) };
    assert!(filters.add(&budget, &short).is_err());
    let long = row::Run { count: 1, ..run(9, &[ONE, TWO]) };
    assert!(filters.add(&budget, &long).is_ok());
}

#[test]
fn a_run_that_has_the_number_of_another_has_a_filter_of_its_own() {
    let budget = Budget::new(1 << 20);
    let filters = Filters::default();
    let run = |digest| row::Run { id: 7, count: 1, filter: filter([digest]) };
    let mut windows = [Window::new(&budget, 0, WEEK), Window::new(&budget, 0, WEEK)];
    // The database went back, and the second window was loaded after that.
    for (window, digest) in windows.iter_mut().zip([ONE, TWO]) {
        window.ask_also(vec![filters.add(&budget, &run(digest)).unwrap()]);
        assert_eq!(window.look(digest), Look::Ask);
    }
    assert_eq!((windows[0].look(TWO), windows[1].look(ONE)), (Look::New, Look::New));
}

const ONE: Digest = Digest(1 << 100 | 77);
const TWO: Digest = Digest(3 << 101 | 5 << 7);

#[test]
fn a_damaged_filter_is_said_with_its_run_and_nothing_in_the_run_is_missed() {
    let mut window = window();
    let mut bytes = filter([Digest(1 << 100)]);
    bytes[20] ^= 1;
    let error = window.add_run(8, &bytes, 1).unwrap_err();
    assert_eq!(error.to_string(), "run 8: the filter of a run is damaged: its checksum is another");
    assert_eq!(window.look(Digest(1 << 100)), Look::Ask);
    let error = window.add_run(9, &filter([Digest(1)]), 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the filter of run 9 is damaged: it is of 1 digests, and its run has 2"
    );
    assert_eq!(window.ask(Digest(1 << 100)).collect::<Vec<_>>(), [8, 9]);
    // Nobody asks for them again, and there is memory enough.
    assert_eq!((window.has_room_for(), window.lack()), (None, None));
    // Made anew, it is asked for what may be in it alone.
    window.add_run(9, &filter([Digest(1), Digest(2)]), 2).unwrap();
    assert_eq!(window.ask(Digest(u128::MAX)).collect::<Vec<_>>(), [8]);
}

#[test]
fn a_run_from_which_a_key_was_forgotten_keeps_its_filter() {
    let mut window = window();
    window.add_run(9, &filter([Digest(1), Digest(2)]), 1).unwrap();
    assert_eq!(window.look_all(&[Digest(1), Digest(u128::MAX)]), [Look::Ask, Look::New]);
}

#[test]
fn what_is_known_for_ever_does_not_age() {
    let mut window = window();
    window.learn(&[(0, Digest(1)), (1, Digest(2))], at(0));
    window.learn_forever(Digest(2));
    window.evict_older_than(at(WEEK.as_secs()));
    assert_eq!(window.look_all(&[Digest(1), Digest(2)]), [Look::New, Look::Known]);
}

#[test]
fn offsets_of_another_log_are_not_seen() {
    let mut window = window();
    let pack = Pack { entries: vec![(900, Digest(1))], spans: Vec::new() };
    window.load(&pack, &row_of(&pack, 2, at(0)), true);
    assert_eq!(window.seen_to(), None);
    assert_eq!(window.look(Digest(1)), Look::Known);
    window.load(&pack, &row_of(&pack, 3, at(0)), true);
    window.learn(&[(4, Digest(2))], at(0));
    assert_eq!(window.seen_to(), Some(900));
}

#[test]
fn an_era_is_the_512th_part_of_the_window_within_bounds() {
    let era = |length: Duration| Eras::new(length).granularity;
    assert_eq!(era(Duration::from_secs(5120)), 10_000_000);
    assert_eq!(era(Duration::from_secs(1)), 1_000_000);
    assert_eq!(era(Duration::ZERO), 1_000_000);
    assert_eq!(era(Duration::MAX), 24 * 60 * 60 * 1_000_000);
}

#[test]
fn a_digest_is_forgotten_an_era_after_the_window_at_the_latest_and_never_before() {
    for seconds in 0..3000 {
        let mut window = Window::new(&Budget::new(usize::MAX), 0, Duration::from_secs(512 * 100));
        window.learn(&[(0, Digest(1))], at(seconds));
        assert_eq!(window.evict_older_than(at(seconds)), 0);
        assert_eq!(window.evict_older_than(at(seconds + 100)), 1);
    }
}

#[test]
fn what_is_learnt_while_all_rows_are_read_is_kept_however_old_its_time_is() {
    const DAY: u64 = 24 * 60 * 60;
    let mut window = window();
    window.learn(&[(0, Digest(1))], at(0));
    window.note_learning();
    // The clock went back.
    window.learn(&[(5, Digest(2))], at(2 * DAY));
    window.learn_late(&[(1, Digest(3))], at(DAY));
    assert_eq!(window.evict_unneeded(at(3 * DAY)), 1);
    let looks = window.look_all(&[1, 2, 3].map(Digest));
    assert_eq!(looks, [Look::New, Look::Known, Look::Known]);
    window.note_learning();
    assert_eq!(window.evict_unneeded(at(3 * DAY)), 2);
}

#[test]
fn what_is_packed_late_is_known_and_says_nothing_of_how_far_the_lane_is() {
    let mut random = Random(7);
    let mut window = window();
    let [first, late] = [digest(&mut random), digest(&mut random)];
    window.learn(&[(5, first)], at(0));
    window.learn_late(&[(900, late)], at(10));
    assert_eq!((window.look(late), window.seen_to()), (Look::Known, Some(5)));
    window.evict_older_than(at(2 * 7 * 24 * 60 * 60));
    assert_eq!(window.look(late), Look::New);
}

#[test]
fn what_is_known_elsewhere_is_known_here_until_it_is_not_any_more() {
    let mut random = Random(7);
    let budget = Budget::new(usize::MAX);
    let mut window = Window::new(&budget, 3, WEEK);
    let used = budget.used();
    let digests: Vec<_> = (0..100).map(|_| digest(&mut random)).collect();
    window.know_also(digests.iter().copied().collect());
    assert!(window.look_all(&digests).iter().all(|look| *look == Look::Known));
    assert!(budget.used() >= used + 100 * size_of::<Digest>());
    assert!(!window.was_given_up(digests[0]));
    window.evict_older_than(at(1 << 30));
    window.know_also(digests[..1].iter().copied().collect());
    let looks = window.look_all(&digests[..2]);
    assert_eq!(looks, [Look::Known, Look::New]);
}

/// Runs of 640 digests each, whose filters have 20 blocks.
fn larger(random: &mut Random) -> (Vec<Digest>, Vec<u8>) {
    let digests: Vec<Digest> = (0..640).map(|_| digest(random)).collect();
    let filter = filter(digests.iter().copied());
    (digests, filter)
}

#[test]
fn filters_are_folded_before_a_run_has_none() {
    const FULL: usize = 20 * 64;
    let random = &mut Random(9);
    let empty = Window::new(&Budget::new(usize::MAX), 0, WEEK).bytes();
    let budget = Budget::new(empty + FULL);
    let mut window = Window::new(&budget, 0, WEEK);
    let mut runs = Vec::new();
    let folds = [&[0][..], &[1, 1], &[2, 1, 2], &[2; 4]];
    for (run, folds) in (0..).zip(folds) {
        let (digests, filter) = larger(random);
        window.add_run(run, &filter, 640).unwrap();
        runs.push(digests);
        let held = window.runs.iter().map(|run| run.filter.as_ref().unwrap().0.folds());
        assert_eq!(held.collect::<Vec<_>>(), folds);
        assert_eq!(window.bytes(), budget.used());
        assert!(budget.used() <= budget.limit());
        for (run, digests) in (0..).zip(&runs) {
            assert!(digests.iter().all(|it| window.ask(*it).any(|asked| asked == run)));
        }
    }
    // There is no more: the others stay as they are.
    let (_, one_more) = larger(random);
    window.add_run(9, &one_more, 640).unwrap();
    let held = window.runs.iter().map(|run| run.filter.as_ref().map(|it| it.0.folds()));
    assert_eq!(held.collect::<Vec<_>>(), [Some(2), Some(2), Some(2), Some(2), None]);
    // One that has room is not folded.
    (0..4).for_each(|run| window.drop_run(run));
    window.add_run(9, &one_more, 640).unwrap();
    assert_eq!(window.runs[0].filter.as_ref().unwrap().0.folds(), 0);
}

#[test]
fn there_is_room_for_a_filter_when_others_can_be_folded_for_it() {
    const FULL: usize = 20 * 64;
    let random = &mut Random(9);
    let budget = Budget::new(FULL + FULL / 8);
    let mut window = Window::new(&budget, 0, WEEK);
    window.add_run(1, &larger(random).1, 640).unwrap();
    let (_, other) = larger(random);
    budget.take(FULL * 8);
    window.add_run(2, &other, 640).unwrap();
    let folds = |window: &Window| window.runs[0].filter.as_ref().unwrap().0.folds();
    assert_eq!((window.has_room_for(), folds(&window)), (None, 0), "it would be folded in vain");
    budget.give(FULL * 8);
    assert_eq!(window.has_room_for(), Some(2));
    window.add_run(2, &other, 640).unwrap();
    assert_eq!((window.has_room_for(), window.lack(), folds(&window)), (None, None, 1));
    assert!(budget.used() <= budget.limit());
}

#[test]
fn a_filter_of_a_former_layout_is_folded_too_and_known_again() {
    let random = &mut Random(10);
    let (digests, filter) = larger(random);
    // Half of it is for what is common: 10 blocks.
    let budget = Budget::new(20 * 64);
    let filters = Filters::default();
    let run = row::Run { id: 7, count: 640, filter };
    let first = filters.add(&budget, &run).unwrap();
    assert_eq!(first.filter.as_ref().unwrap().filter.folds(), 1);
    assert_eq!(budget.used(), 10 * 64);
    let second = filters.add(&budget, &run).unwrap();
    assert!(Arc::ptr_eq(first.filter.as_ref().unwrap(), second.filter.as_ref().unwrap()));
    assert!(digests.iter().all(|it| second.may_contain(*it)));
    // In a database that went back another run has the number; for that there is no room.
    let (others, filter) = larger(random);
    let other = filters.add(&budget, &row::Run { filter, ..run }).unwrap();
    assert!(other.filter.is_none());
    assert!(others.iter().all(|it| other.may_contain(*it)));
    drop((first, second));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_merged_run_takes_the_place_of_others_at_once() {
    let random = &mut Random(11);
    let budget = Budget::new(1 << 20);
    let mut window = Window::new(&budget, 0, WEEK);
    let runs: Vec<_> = (0..3).map(|_| larger(random)).collect();
    for (run, (_, filter)) in (0..).zip(&runs) {
        window.add_run(run, filter, 640).unwrap();
    }
    let mut filter = Filter::of(1280);
    runs[..2].iter().flat_map(|run| &run.0).for_each(|it| filter.insert(*it));
    window.merge_runs(&[(0, 640), (1, 640)], 9, filter, 1280);
    assert_eq!(window.sizes(), [(2, 640), (9, 1280)]);
    for digest in runs[..2].iter().flat_map(|run| &run.0) {
        assert!(window.ask(*digest).any(|run| run == 9));
        assert!(window.ask(*digest).all(|run| run > 1));
    }
    assert_eq!(window.bytes(), budget.used());
}

#[test]
fn what_is_missing_for_filters_is_said_for_all_windows() {
    let random = &mut Random(12);
    let empty = Window::new(&Budget::new(usize::MAX), 0, WEEK).bytes();
    // For one filter that is folded twice.
    let budget = Budget::new(2 * empty + 5 * 64);
    let mut windows = [Window::new(&budget, 0, WEEK), Window::new(&budget, 0, WEEK)];
    let runs: Vec<_> = (0..3).map(|_| larger(random).1).collect();
    windows[0].add_run(1, &runs[0], 640).unwrap();
    assert_eq!(windows[0].lack(), None, "it has one that is folded");
    windows[0].add_run(2, &runs[1], 640).unwrap();
    windows[1].add_run(3, &runs[2], 640).unwrap();
    let lack = |runs, digests| Lack {
        runs,
        digests,
        bytes: budget.limit(),
        needed: 2 * empty + 3 * 20 * 64,
    };
    assert_eq!(windows[0].lack(), Some(lack(1, 1280)));
    assert_eq!(windows[1].lack(), Some(lack(1, 640)));
    assert_eq!(windows[1].has_room_for(), None);
    // With so much there is room, and less would not do.
    let budget = Budget::new(lack(1, 1).needed);
    let mut others = [Window::new(&budget, 0, WEEK), Window::new(&budget, 0, WEEK)];
    for (run, window) in [(0, 0), (1, 0), (2, 1)] {
        others[window].add_run(run, &runs[usize::try_from(run).unwrap()], 640).unwrap();
    }
    assert!(
        others.iter().flat_map(|it| &it.runs).all(|it| it.filter.as_ref().unwrap().0.folds() == 0)
    );
    assert_eq!(budget.used(), budget.limit());
    // What goes makes room for others.
    windows[0].drop_run(1);
    assert_eq!(windows[0].has_room_for(), Some(2));
    assert_eq!(windows[1].has_room_for(), Some(3));
    windows[1].add_run(3, &runs[2], 640).unwrap();
    assert_eq!((windows[0].has_room_for(), windows[1].lack()), (None, None));
    // One that is damaged is asked for another reason.
    windows[0].drop_run(2);
    windows[0].add_run(4, b"no filter", 640).unwrap_err();
    assert_eq!((windows[0].lack(), windows[0].has_room_for()), (None, None));
}

#[test]
fn what_is_missing_for_filters_of_a_former_layout_is_said_too() {
    let random = &mut Random(13);
    let empty = Window::new(&Budget::new(usize::MAX), 0, WEEK).bytes();
    let budget = Budget::new(empty);
    let filters = Filters::default();
    let mut window = Window::new(&budget, 0, WEEK);
    let runs: Vec<_> = (0..100).map(|_| larger(random).1).collect();
    let asked = |(id, filter): (i64, &Vec<u8>)| {
        filters.add(&budget, &row::Run { id, count: 640, filter: filter.clone() }).unwrap()
    };
    window.ask_also((0..).zip(&runs).map(asked).collect());
    let lack = window.lack().unwrap();
    assert_eq!(lack.digests, 64_000);
    // They have half of the memory at most.
    let all = 100 * 20 * 64;
    assert!(lack.needed >= 2 * all && lack.needed < 2 * all + empty, "{lack:?}");
    window.ask_also(vec![Asked::always(5)]);
    assert_eq!(window.lack(), None, "its filter is damaged");
}
