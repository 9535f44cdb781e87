//! Deleting what is past its time or beyond its number: a few rows after each group, more when the writer is idle, so
//! that no group waits for it. Which rows go is decided here alone.
//!
//! Runs go oldest first; one that has not ended stays, and so does the newest, whose number must not be used again.
//! Events go when all runs up to theirs are gone, and by number as a backstop against guests that emit without end.
//! Runs are walked in the order of their numbers (`seq`) and counted by their ordinals, see `schema.rs`.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use crate::apply::Counters;
use crate::clock::Clock;
use crate::codes::{FIRST_TERMINAL, IdBytes, int, uint};

/// Most rows deleted at once.
const CHUNK: u64 = 500;
/// Least rows deleted after a group; with as many again as the group has, deleting keeps pace with writing.
const FLOOR: u64 = 32;
/// How often age is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Events kept for each run that may be kept; two are its own, the others its guest's.
const EVENTS_PER_RUN: u64 = 8;
const EVENTS_LEAST: u64 = 100_000;

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) runs: u64,
    pub(crate) age: Duration,
}

/// The state of deleting.
#[derive(Debug)]
pub(crate) struct Retention {
    keep: Keep,
    clock: Clock,
    /// No run lies below this number, and below this ordinal.
    oldest: (u64, u64),
    /// No run whose ordinal is below this could go.
    kept_from: u64,
    /// Deleting goes on with the next step.
    busy: bool,
    next_look: Instant,
    not_before: Instant,
}

impl Retention {
    pub(crate) fn new(keep: Keep, clock: Clock) -> Self {
        let now = Instant::now();
        Self { keep, clock, oldest: (0, 0), kept_from: 0, busy: true, next_look: now, not_before: now }
    }

    /// Whether there is something to do at once.
    pub(crate) fn is_due(&self, next_ordinal: u64) -> bool {
        // A few too many are let stand, or each group would have a transaction of deleting behind it.
        let slack = (self.keep.runs / 8).min(256);
        let over = next_ordinal.saturating_sub(self.kept_from) > self.keep.runs.saturating_add(slack);
        let now = Instant::now();
        now >= self.not_before && (self.busy || over || now >= self.next_look)
    }

    /// Something failed: not again before a while.
    pub(crate) fn pause(&mut self) {
        self.not_before = Instant::now() + EVERY;
    }

    /// Deletes one chunk; gives the number of runs deleted.
    pub(crate) fn step(
        &mut self,
        conn: &Connection,
        counters: Counters,
        group: usize,
    ) -> rusqlite::Result<u64> {
        if !self.is_due(counters.next_ordinal) {
            return Ok(0);
        }
        self.next_look = Instant::now() + EVERY;
        let chunk = if group == 0 { CHUNK } else { (2 * group as u64).clamp(FLOOR, CHUNK) };
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (runs, more_runs) = self.runs(conn, counters, chunk)?;
        let more_events = self.events(conn, counters, chunk)?;
        let more_keys = self.keys(conn, chunk)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        self.busy = more_runs || more_events || more_keys;
        Ok(runs)
    }

    fn runs(&mut self, conn: &Connection, counters: Counters, chunk: u64) -> rusqlite::Result<(u64, bool)> {
        let newest = counters.next_ordinal - 1;
        let by_count = counters.next_ordinal.saturating_sub(self.keep.runs);
        let cutoff = self.clock.age_ms().saturating_sub(self.keep.age.as_millis() as u64);
        let mut seen = 0;
        let mut deleted = 0;
        let mut stopped = false;
        let mut oldest = None;
        self.kept_from = by_count;
        {
            let mut rows = conn.prepare_cached(
                "SELECT seq, tenant, status, ended_at, labels, iif(labels > 0, record, NULL), run_id,
                     coalesce(ordinal, seq)
                 FROM runs WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = rows.query(params![int(self.oldest.0), int(chunk)])?;
            let mut drop_run = conn.prepare_cached("DELETE FROM runs WHERE seq = ?1")?;
            let mut drop_label =
                conn.prepare_cached("DELETE FROM labels WHERE tenant = ?1 AND label = ?2 AND run = ?3")?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                let ordinal = uint(row.get(7)?);
                if ordinal >= newest {
                    break;
                }
                seen += 1;
                if row.get::<_, i64>(2)? < FIRST_TERMINAL {
                    // It stays for now, and is looked at again.
                    oldest.get_or_insert((uint(seq), ordinal));
                    continue;
                }
                // A frozen run never ended: its age is that of its id.
                let ended = match row.get::<_, Option<i64>>(3)? {
                    Some(ended) => uint(ended),
                    None => row.get::<_, IdBytes>(6)?.run_id().unix_ms(),
                };
                if ordinal >= by_count && ended >= cutoff {
                    oldest.get_or_insert((uint(seq), ordinal));
                    stopped = true;
                    break;
                }
                if row.get::<_, i64>(4)? > 0 {
                    for label in labels_of(row.get_ref(5)?.as_blob().unwrap_or_default()) {
                        drop_label.execute(params![row.get::<_, i64>(1)?, label, seq])?;
                    }
                }
                drop_run.execute([seq])?;
                deleted += 1;
            }
        }
        if let Some(oldest) = oldest {
            self.oldest = oldest;
        }
        if !stopped && by_count > 0 && seen == chunk {
            // There is more to look at before this can be known.
            self.kept_from = self.kept_from.min(self.oldest.1);
        }
        Ok((deleted, !stopped && seen == chunk && deleted > 0))
    }

    fn events(&self, conn: &Connection, counters: Counters, chunk: u64) -> rusqlite::Result<bool> {
        let of_runs: Option<i64> = conn
            .prepare_cached("SELECT first_event FROM runs ORDER BY seq LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let most = self.keep.runs.saturating_mul(EVENTS_PER_RUN).max(EVENTS_LEAST);
        let by_count = counters.next.saturating_sub(most);
        // The newest row stays, so that its number is not given again.
        let floor = of_runs.map_or(0, uint).max(by_count).min(counters.last_event());
        let deleted = conn
            .prepare_cached(
                "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq < ?1 ORDER BY seq LIMIT ?2)",
            )?
            .execute(params![int(floor), int(2 * chunk)])?;
        Ok(deleted as u64 == 2 * chunk)
    }

    fn keys(&self, conn: &Connection, chunk: u64) -> rusqlite::Result<bool> {
        // Keys are added in the order of their expiry, so the oldest rows tell.
        let deleted = conn
            .prepare_cached(
                "DELETE FROM keys WHERE id IN (SELECT id FROM keys ORDER BY id LIMIT ?2) AND expires_at <= ?1",
            )?
            .execute(params![int(self.clock.key_ms()), int(chunk)])?;
        Ok(deleted as u64 == chunk)
    }
}

fn labels_of(record: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Labels {
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
    }
    serde_json::from_slice::<Labels>(record).map_or_else(
        |_| Vec::new(),
        |found| found.labels.iter().map(|(key, value)| crate::change::label_text(key, value)).collect(),
    )
}
