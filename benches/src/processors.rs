//! What the machine's processors have spent on anything, from `/proc/stat`; see proc_stat(5).

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// CPU time that the whole machine has spent on anything, idling and waiting aside.
pub(crate) fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = text.lines().next() else { return Duration::ZERO };
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    in_time(busy)
}

/// Kernel clock ticks as time.
pub(crate) fn in_time(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .unwrap_or(100);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second.max(1))
}
