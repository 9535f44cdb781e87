//! Counts for the metrics: by source and outcome, never by module or tenant.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::answer::{Miss, SourceKind};

/// What one kind of source has answered since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Delivered, and verified.
    pub found: u64,
    /// Had no such module.
    pub absent: u64,
    /// Failed, or let the time pass.
    pub failed: u64,
    /// Delivered other bytes, or more than may be taken and compared.
    pub unverified: u64,
    /// Delivered something verified that is refused: too large, or not a file.
    pub invalid: u64,
    /// Not asked, because it had failed shortly before.
    pub left_out: u64,
    /// Verified bytes delivered.
    pub bytes: u64,
}

/// All counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// In the order of [`SourceKind::ALL`].
    pub sources: [SourceStats; 5],
    /// Resolves answered from memory.
    pub memory_hits: u64,
    /// Modules in memory.
    pub memory_modules: u64,
    /// Bytes of modules in memory, with their bookkeeping.
    pub memory_bytes: u64,
    /// Files written to the cache folder.
    pub cache_writes: u64,
    /// Writes to the cache folder that failed.
    pub cache_write_errors: u64,
    /// Files removed from the cache folder because it was full.
    pub cache_evictions: u64,
}

impl StatsSnapshot {
    /// The counts of one kind of source.
    pub fn source(&self, kind: SourceKind) -> &SourceStats {
        &self.sources[kind.index()]
    }
}

#[derive(Debug, Default)]
struct Row {
    found: AtomicU64,
    absent: AtomicU64,
    failed: AtomicU64,
    unverified: AtomicU64,
    invalid: AtomicU64,
    left_out: AtomicU64,
    bytes: AtomicU64,
}

/// The counters behind a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    rows: [Row; 5],
    memory_hits: AtomicU64,
    pub(crate) cache_writes: AtomicU64,
    pub(crate) cache_write_errors: AtomicU64,
    pub(crate) cache_evictions: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Stats {
    pub(crate) fn memory_hit(&self) {
        add(&self.memory_hits, 1);
    }

    pub(crate) fn found(&self, kind: SourceKind, bytes: usize) {
        let row = &self.rows[kind.index()];
        add(&row.found, 1);
        add(&row.bytes, bytes as u64);
    }

    pub(crate) fn missed(&self, kind: SourceKind, miss: &Miss) {
        let row = &self.rows[kind.index()];
        let counter = match miss {
            Miss::Absent(_) => &row.absent,
            // It may be listed at the next look: what comes of that is counted.
            Miss::Unlisted(_) => return,
            Miss::Down(_) | Miss::Failed(_) | Miss::Silent(_) => &row.failed,
            Miss::LeftOut(_) => &row.left_out,
            Miss::Lied(_) | Miss::TooLarge(_) => &row.unverified,
            Miss::Invalid(_) => &row.invalid,
        };
        add(counter, 1);
    }

    /// It stayed unlisted.
    pub(crate) fn unlisted(&self, kind: SourceKind) {
        add(&self.rows[kind.index()].absent, 1);
    }

    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut snapshot = StatsSnapshot {
            memory_hits: read(&self.memory_hits),
            cache_writes: read(&self.cache_writes),
            cache_write_errors: read(&self.cache_write_errors),
            cache_evictions: read(&self.cache_evictions),
            ..StatsSnapshot::default()
        };
        for (row, counters) in snapshot.sources.iter_mut().zip(&self.rows) {
            *row = SourceStats {
                found: read(&counters.found),
                absent: read(&counters.absent),
                failed: read(&counters.failed),
                unverified: read(&counters.unverified),
                invalid: read(&counters.invalid),
                left_out: read(&counters.left_out),
                bytes: read(&counters.bytes),
            };
        }
        snapshot
    }
}
