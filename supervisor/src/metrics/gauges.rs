//! Numbers that say how things are: the switches, the layers, and what other parts and the kernel count for us.

use prometheus::{Error, Gauge, IntCounter, IntGauge, Registry};
use void_ipc::message::Layer;
use void_module::{SourceKind, SourceStats};

use super::Moment;
use super::families::{counter, counters, gauge, gauges};
use super::process::Process;

/// How a source answered, and where that is counted.
type Outcome = (&'static str, fn(&SourceStats) -> u64);

const OUTCOMES: [Outcome; 6] = [
    ("found", |stats| stats.found),
    ("absent", |stats| stats.absent),
    ("failed", |stats| stats.failed),
    ("unverified", |stats| stats.unverified),
    ("invalid", |stats| stats.invalid),
    ("left_out", |stats| stats.left_out),
];

pub(super) struct Gauges {
    canary: Gauge,
    frozen: IntGauge,
    enabled: IntGauge,
    /// In the order of [`Layer::ALL`].
    layers: Vec<IntGauge>,
    queue_depth: IntGauge,
    /// For each kind of source its outcomes in the order of [`OUTCOMES`].
    resolves: Vec<IntCounter>,
    remembered: IntCounter,
    fetched_bytes: Vec<IntCounter>,
    memory_bytes: IntGauge,
    /// Files of the cache folder written, not written, and deleted for room.
    cache_files: [IntCounter; 3],
    store_waiting: IntGauge,
    store_failing: IntGauge,
    store_commits: IntCounter,
    store_alone: IntCounter,
    store_failed: IntCounter,
    deleted_runs: IntCounter,
    process: Process,
}

impl Gauges {
    pub(super) fn new(r: &Registry) -> Result<Gauges, Error> {
        let canary = Gauge::new("void_wasm_canary_share", "The share of runs that execute, 0 to 1.")?;
        r.register(Box::new(canary.clone()))?;
        let build = gauges(r, "void_wasm_build_info", "The version that runs; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let layers =
            gauges(r, "void_wasm_isolation_layer", "Whether a layer of the isolation stands.", &["layer"])?;
        let resolves = counters(
            r,
            "void_wasm_module_resolves_total",
            "Questions for a module, by the source asked and its answer.",
            &["source", "outcome"],
        )?;
        let bytes = counters(
            r,
            "void_wasm_module_bytes_total",
            "Verified bytes of modules, by their source.",
            &["source"],
        )?;
        let cache = counters(
            r,
            "void_wasm_module_cache_files_total",
            "Files of the module cache, by what became of them.",
            &["outcome"],
        )?;
        let sources = SourceKind::ALL.iter();
        Ok(Gauges {
            canary,
            frozen: gauge(r, "void_wasm_frozen", "Whether runs are accepted and not executed.")?,
            enabled: gauge(r, "void_wasm_enabled", "Whether the master switch is on.")?,
            layers: Layer::ALL.iter().map(|layer| layers.with_label_values(&[layer.name()])).collect(),
            queue_depth: gauge(r, "void_wasm_queue_depth", "Runs that wait for a worker.")?,
            remembered: resolves.with_label_values(&["memory", "found"]),
            resolves: sources
                .clone()
                .flat_map(|kind| {
                    OUTCOMES.map(|(outcome, _)| resolves.with_label_values(&[kind.as_str(), outcome]))
                })
                .collect(),
            fetched_bytes: sources.map(|kind| bytes.with_label_values(&[kind.as_str()])).collect(),
            memory_bytes: gauge(r, "void_wasm_module_memory_bytes", "Modules kept in memory, in bytes.")?,
            cache_files: ["written", "failed", "evicted"].map(|outcome| cache.with_label_values(&[outcome])),
            store_waiting: gauge(r, "void_wasm_store_waiting", "Changes that wait to be written.")?,
            store_failing: gauge(r, "void_wasm_store_failing", "Whether the last write failed.")?,
            store_commits: counter(r, "void_wasm_store_commits_total", "Groups of changes written.")?,
            store_alone: counter(
                r,
                "void_wasm_store_lone_commits_total",
                "Those of them that a lane wrote by itself, for one run.",
            )?,
            store_failed: counter(
                r,
                "void_wasm_store_failures_total",
                "Groups of changes that could not be written.",
            )?,
            deleted_runs: counter(r, "void_wasm_runs_deleted_total", "Runs deleted by age or number.")?,
            process: Process::new(r)?,
        })
    }

    /// Brings in what others count. Not to be called by two threads at once.
    pub(super) fn carry_over(&self, moment: &Moment<'_>) {
        let Moment { switches, supply, store, layers, queued } = moment;
        self.canary.set(switches.canary.get());
        self.frozen.set(i64::from(switches.freeze));
        self.enabled.set(i64::from(switches.enabled));
        for (layer, stands) in Layer::ALL.iter().zip(&self.layers) {
            stands.set(i64::from(layers.contains(&layer.name())));
        }
        set(&self.queue_depth, *queued as u64);
        let kinds =
            SourceKind::ALL.iter().zip(self.resolves.chunks_exact(OUTCOMES.len())).zip(&self.fetched_bytes);
        for ((kind, counters), bytes) in kinds {
            let stats = supply.source(*kind);
            OUTCOMES.iter().zip(counters).for_each(|((_, count), counter)| raise(counter, count(stats)));
            raise(bytes, stats.bytes);
        }
        raise(&self.remembered, supply.memory_hits);
        set(&self.memory_bytes, supply.memory_bytes);
        let files = [supply.cache_writes, supply.cache_write_errors, supply.cache_evictions];
        self.cache_files.iter().zip(files).for_each(|(counter, count)| raise(counter, count));
        set(&self.store_waiting, store.waiting);
        self.store_failing.set(i64::from(store.failing));
        raise(&self.store_commits, store.groups);
        raise(&self.store_alone, store.alone);
        raise(&self.store_failed, store.failed_groups);
        raise(&self.deleted_runs, store.deleted_runs);
        self.process.look();
    }
}

/// Brings a counter to a count that is kept elsewhere and only rises.
pub(super) fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

pub(super) fn set(gauge: &IntGauge, to: u64) {
    gauge.set(i64::try_from(to).unwrap_or(i64::MAX));
}
