//! CPU time and memory, as the kernel counts them (Linux).

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::task::Company;

/// A tick of the times in `/proc`: 10 ms on every architecture that Rust's standard library is
/// tested on.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let time = |time: TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| time(usage.user_time()) + time(usage.system_time()))
        .unwrap_or_default()
}

/// The most memory this process ever had, in bytes. Not `ru_maxrss`: that starts with what the parent
/// had when it forked.
pub(crate) fn peak_rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// The CPU time so far of a process and its children, those that ended included.
pub(crate) fn family_cpu(parent: i32) -> Option<Duration> {
    let mut ticks = None;
    for entry in fs::read_dir("/proc").ok()? {
        let Some(pid) = entry.ok()?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Some(stat) = Stat::read(pid) else { continue };
        if pid == parent {
            *ticks.get_or_insert(0) += stat.own + stat.ended_children;
        } else if stat.parent == parent {
            *ticks.get_or_insert(0) += stat.own;
        }
    }
    Some(TICK * ticks?)
}

/// The CPU time of a process so far.
pub(crate) fn cpu(pid: i32) -> Option<Duration> {
    Some(TICK * Stat::read(pid)?.own)
}

/// The CPU time that the machine has given to anybody so far, and what its host took away.
pub(crate) fn machine_cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u32> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|it| it.parse().ok()).collect();
    let idle: u32 = ticks.get(3..5)?.iter().sum();
    // Time given to guests, which comes last, is in the user's time already.
    Some(TICK * (ticks.iter().take(8).sum::<u32>() - idle))
}

/// The CPU time of everybody but the company. Whoever asks and is not in it subtracts its own.
pub(crate) fn strangers(company: &Company) -> Option<Duration> {
    let postgres = company.postmaster.and_then(family_cpu);
    let friends = [company.broker, company.bench].map(|pid| pid.and_then(cpu));
    let ours: Duration = friends.into_iter().chain([postgres]).flatten().sum();
    Some(machine_cpu()?.saturating_sub(ours))
}

/// The parent of a process, if that process is called `name`.
pub(crate) fn parent_of(pid: i32, name: &str) -> Option<i32> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (comm.trim() == name).then(|| Stat::read(pid)).flatten().map(|stat| stat.parent)
}

/// What matters here of a process's `stat`, in ticks.
struct Stat {
    parent: i32,
    own: u32,
    ended_children: u32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    // The second field, the command in parentheses, may itself hold spaces and parentheses: the last
    // closing one ends it. Then fields 4 and 14 to 17 are wanted.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(14)? + ticks(15)?,
            ended_children: ticks(16)? + ticks(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = Stat::parse("5 (a) (b)) S 77 2 3 4 5 6 7 8 9 10 100 20 3 4 18 19").unwrap();
        assert_eq!((stat.parent, stat.own, stat.ended_children), (77, 120, 7));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let mut sum = 0_u64;
        while own_cpu() < TICK * 3 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(peak_rss() > 0, "{sum}");
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(family_cpu(pid).unwrap() >= TICK && cpu(pid).unwrap() >= TICK);
        assert!(machine_cpu().unwrap() >= TICK * 3);
    }
}
