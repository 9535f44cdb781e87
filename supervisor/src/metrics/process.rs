//! The process' own numbers, under the names that every exporter uses. Read from /proc when they are asked for.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};
use prometheus::{Counter, Error, Gauge, IntGauge, Registry};

use super::families::gauge;
use super::gauges::set;

pub(super) struct Process {
    cpu: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    resident: IntGauge,
    threads: IntGauge,
    ticks_per_second: f64,
    page_bytes: u64,
}

/// What the kernel says, as far as it could be read.
struct Seen {
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl Process {
    pub(super) fn new(r: &Registry) -> Result<Process, Error> {
        let cpu =
            Counter::new("process_cpu_seconds_total", "CPU time of the supervisor itself, in seconds.")?;
        r.register(Box::new(cpu.clone()))?;
        let started = Gauge::new(
            "process_start_time_seconds",
            "When the supervisor was started, Unix time in seconds.",
        )?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        started.set(now.map_or(0.0, |now| now.as_secs_f64()));
        r.register(Box::new(started))?;
        let system = |what| sysconf(what).ok().flatten().and_then(|value| u32::try_from(value).ok());
        let process = Process {
            cpu,
            open_fds: gauge(r, "process_open_fds", "Open file descriptors of the supervisor.")?,
            max_fds: gauge(r, "process_max_fds", "Most file descriptors that the supervisor may open.")?,
            resident: gauge(
                r,
                "process_resident_memory_bytes",
                "Resident memory of the supervisor, in bytes.",
            )?,
            threads: gauge(r, "process_threads", "Threads of the supervisor.")?,
            ticks_per_second: system(SysconfVar::CLK_TCK).map_or(100.0, f64::from),
            page_bytes: system(SysconfVar::PAGE_SIZE).map_or(4096, u64::from),
        };
        set(&process.max_fds, system(SysconfVar::OPEN_MAX).map_or(0, u64::from));
        Ok(process)
    }

    /// Brings the numbers up to date; what cannot be read stays as it was.
    pub(super) fn look(&self) {
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // The look itself holds one.
            set(&self.open_fds, (fds.count() as u64).saturating_sub(1));
        }
        if let Some(seen) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(read) {
            let cpu = seen.cpu_ticks as f64 / self.ticks_per_second;
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            set(&self.threads, seen.threads);
            set(&self.resident, seen.resident_pages.saturating_mul(self.page_bytes));
        }
    }
}

/// Reads `/proc/self/stat`, see proc_pid_stat(5). The name in the second field may hold anything, so what counts begins
/// behind its last parenthesis, with the third field.
fn read(stat: &str) -> Option<Seen> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Seen { cpu_ticks: field(14)? + field(15)?, threads: field(20)?, resident_pages: field(24)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 5 0 100 1000000 321 18446744073709551615 1";
        let seen = read(stat).unwrap();
        assert_eq!((seen.cpu_ticks, seen.threads, seen.resident_pages), (42, 5, 321));
        assert!(read("7 (a) S 1").is_none());
        assert!(read("").is_none());
    }

    #[test]
    fn our_own_are_read() {
        let seen = read(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(seen.threads >= 1 && seen.resident_pages > 0);
    }
}
