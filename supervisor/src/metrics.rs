//! The numbers of the service, for Prometheus. Every series is resolved once and kept in a field or an array, so that
//! counting on the way of a run is one atomic addition. No label holds anything that a client or a guest chose.

mod families;
mod fetches;
mod gauges;
mod http;
mod process;
mod sample;
mod stages;
mod words;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntGauge, Registry, TextEncoder};
use void_api::{CallKind, Decision, Mode, Reason, Status};
use void_policy::judge::Rule;

use families::{Grid, ms};
use gauges::Gauges;
use http::Http;
use words::{CAPS, Doing, LIMITS, limit_index};

pub(crate) use fetches::{Fetched, Fetches};
pub(crate) use http::ROUTES;
pub(crate) use sample::{Ended, Sample};
pub(crate) use stages::{Laps, Stage};
#[cfg(test)]
pub(crate) use words::refuses;
pub(crate) use words::{Cause, CodeFile, CodeSource, Role};

/// What `/metrics` answers with.
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Milliseconds, from a call that returns at once to the longest budgets.
const RUN_BUCKETS: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0,
    10_000.0, 30_000.0,
];
const COMPILE_BUCKETS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];

/// All of them. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Series>);

/// What [`Metrics`] shares.
pub(crate) struct Series {
    registry: Registry,
    runs: Grid,
    run_duration: Histogram,
    calls: Grid,
    denied: Grid,
    violations: Vec<IntCounter>,
    workers: Vec<IntGauge>,
    starts: Vec<IntCounter>,
    deaths: Grid,
    queue_wait: Histogram,
    stages: stages::Stages,
    compiles: Histogram,
    code_cache: Vec<IntCounter>,
    code_files: Vec<IntCounter>,
    reloads: [IntCounter; 2],
    http: Http,
    fetches: Fetches,
    gauges: Gauges,
    /// One reading at a time: some numbers are carried over from other parts when they are read.
    reading: Mutex<()>,
}

impl std::ops::Deref for Metrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.0
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Every series, at 0.
    ///
    /// # Errors
    /// A name or a label is not one, or stands twice: a mistake in this module.
    pub(crate) fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let runs = Grid::new(
            families::counters(
                r,
                "void_wasm_runs_total",
                "Runs that ended, by how they ended and how they were admitted.",
                &["status", "mode"],
            )?,
            &words::of(Status::ALL, Status::as_str),
            &words::of(Mode::ALL, Mode::as_str),
            |status, mode| words::ends(Status::ALL[status], Mode::ALL[mode]),
        );
        let calls = Grid::new(
            families::counters(
                r,
                "void_wasm_syscalls_total",
                "Gateway calls of guests, by kind and how they were answered.",
                &["kind", "decision"],
            )?,
            &words::of(CallKind::ALL, CallKind::as_str),
            &words::of(Decision::ALL, Decision::as_str),
            |_, _| true,
        );
        let denied = Grid::new(
            families::counters(
                r,
                "void_wasm_policy_denied_total",
                "Gateway calls that policy refused, by what would have to be granted and the rule that refused.",
                &["cap", "reason"],
            )?,
            CAPS,
            &words::of(Rule::ALL, Rule::as_str),
            |cap, rule| words::refuses(CAPS[cap], Rule::ALL[rule]),
        );
        let violations = families::counters(
            r,
            "void_wasm_resource_violations_total",
            "Runs that ended at a limit, by the limit.",
            &["type"],
        )?;
        let starts = families::counters(
            r,
            "void_wasm_worker_starts_total",
            "Worker processes started, by what they are.",
            &["role"],
        )?;
        let deaths = Grid::new(
            families::counters(
                r,
                "void_wasm_worker_deaths_total",
                "Worker processes that ended, by what they were and why.",
                &["role", "cause"],
            )?,
            &words::of(Role::ALL, Role::as_str),
            &words::of(Cause::ALL, Cause::as_str),
            |_, _| true,
        );
        let workers = families::gauges(
            r,
            "void_wasm_workers",
            "Worker processes alive, by what they are and do.",
            &["role", "state"],
        )?;
        let code_cache =
            families::counters(r, "void_wasm_code_cache_total", "Look-ups of compiled code.", &["outcome"])?;
        let code_files = families::counters(
            r,
            "void_wasm_code_files_total",
            "Files of compiled code, by what became of them.",
            &["outcome"],
        )?;
        let reloads =
            families::counters(r, "void_wasm_reloads_total", "Reloads of the settings.", &["outcome"])?;
        Ok(Metrics(Arc::new(Series {
            runs,
            run_duration: families::histogram(
                r,
                "void_wasm_run_duration_ms",
                "Wall time of executed runs, in milliseconds.",
                RUN_BUCKETS,
            )?,
            calls,
            denied,
            violations: LIMITS.iter().map(|limit| violations.with_label_values(&[limit.as_str()])).collect(),
            workers: Role::ALL
                .iter()
                .flat_map(|role| {
                    Doing::ALL.iter().map(|doing| workers.with_label_values(&[role.as_str(), doing.as_str()]))
                })
                .collect(),
            starts: Role::ALL.iter().map(|role| starts.with_label_values(&[role.as_str()])).collect(),
            deaths,
            queue_wait: families::histogram(
                r,
                "void_wasm_queue_wait_ms",
                "Time that runs waited for a place to execute, in milliseconds.",
                RUN_BUCKETS,
            )?,
            stages: stages::Stages::new(r)?,
            compiles: families::histogram(
                r,
                "void_wasm_compile_duration_ms",
                "Time that compiling a module took, in milliseconds.",
                COMPILE_BUCKETS,
            )?,
            code_cache: words::of(CodeSource::ALL, CodeSource::as_str)
                .iter()
                .map(|outcome| code_cache.with_label_values(&[outcome]))
                .collect(),
            code_files: words::of(CodeFile::ALL, CodeFile::as_str)
                .iter()
                .map(|outcome| code_files.with_label_values(&[outcome]))
                .collect(),
            reloads: ["applied", "refused"].map(|outcome| reloads.with_label_values(&[outcome])),
            http: Http::new(r)?,
            fetches: Fetches::new(r)?,
            gauges: Gauges::new(r)?,
            reading: Mutex::new(()),
            registry,
        })))
    }
}

impl Series {
    /// A run has its final record. `executed` is its wall time, where its guest was executed.
    pub(crate) fn run_ended(&self, status: Status, mode: Mode, executed: Option<Duration>) {
        self.runs.at(status as usize, mode as usize).inc();
        if let Some(duration) = executed {
            self.run_duration.observe(ms(duration));
        }
    }

    /// A run ended at a limit; a reason that is no limit counts nothing.
    pub(crate) fn violation(&self, reason: Reason) {
        if let Some(counter) = limit_index(reason).and_then(|index| self.violations.get(index)) {
            counter.inc();
        }
    }

    /// A gateway call was answered.
    pub(crate) fn call(&self, kind: CallKind, decision: Decision) {
        self.calls.at(kind as usize, decision as usize).inc();
    }

    /// Policy refused a gateway call.
    pub(crate) fn denied(&self, kind: CallKind, rule: Rule) {
        if let Some(cap) = CAPS.iter().position(|cap| *cap == kind.cap()) {
            self.denied.at(cap, rule as usize).inc();
        }
    }

    /// A worker process was started.
    pub(crate) fn worker_started(&self, role: Role) {
        if let Some(counter) = self.starts.get(role as usize) {
            counter.inc();
        }
        self.worker(role, Doing::Idle).inc();
    }

    /// A worker process has ended.
    pub(crate) fn worker_ended(&self, role: Role, cause: Cause) {
        self.deaths.at(role as usize, cause as usize).inc();
        self.worker(role, Doing::Idle).dec();
    }

    /// A worker process is at work for as long as the returned value is kept; it may end meanwhile.
    pub(crate) fn busy(&self, role: Role) -> Busy {
        let (idle, busy) = (self.worker(role, Doing::Idle), self.worker(role, Doing::Busy));
        idle.dec();
        busy.inc();
        Busy { idle: idle.clone(), busy: busy.clone() }
    }

    fn worker(&self, role: Role, doing: Doing) -> &IntGauge {
        &self.workers[role as usize * Doing::ALL.len() + doing as usize]
    }

    /// A run waited so long for a worker.
    pub(crate) fn queue_wait(&self, waited: Duration) {
        self.queue_wait.observe(ms(waited));
    }

    /// A module was compiled.
    pub(crate) fn compiled(&self, took: Duration) {
        self.compiles.observe(ms(took));
    }

    /// Compiled code was looked for.
    pub(crate) fn code_cache(&self, from: CodeSource) {
        self.code_cache[from as usize].inc();
    }

    /// Something became of a file of compiled code.
    pub(crate) fn code_file(&self, what: CodeFile) {
        self.code_files[what as usize].inc();
    }

    /// The settings were read again.
    pub(crate) fn reloaded(&self, applied: bool) {
        self.reloads[usize::from(!applied)].inc();
    }

    /// Guests' requests.
    pub(crate) fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// HTTP's own.
    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// All of them in Prometheus' text format, with what other parts know at this moment, and the process' own.
    ///
    /// # Errors
    /// The format cannot be written: a mistake in this module.
    pub(crate) fn render(&self, moment: &Moment<'_>) -> Result<String, prometheus::Error> {
        let _one = self.reading.lock();
        self.gauges.carry_over(moment);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What other parts know, for one reading.
pub(crate) struct Moment<'a> {
    /// The switches in force.
    pub(crate) switches: &'a void_policy::settings::Switches,
    /// The modules' supply.
    pub(crate) supply: &'a void_module::StatsSnapshot,
    /// The store.
    pub(crate) store: &'a void_store::StoreStats,
    /// The names of the layers of isolation that stand.
    pub(crate) layers: &'a [&'static str],
    /// Runs that wait for a worker.
    pub(crate) queued: usize,
}

/// A worker process at work.
#[derive(Debug)]
#[must_use]
pub(crate) struct Busy {
    idle: IntGauge,
    busy: IntGauge,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.busy.dec();
        self.idle.inc();
    }
}
