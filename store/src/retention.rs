//! Deleting what is past its time or beyond its number: a few rows after each group, more when the writer is idle, so
//! that no group waits for it. Which rows go is decided here alone.
//!
//! Runs go in the order in which they were stored; one that has not ended stays, and so does the newest, whose number must not be used again.
//! Events go when all runs up to theirs are gone, and by number as a backstop against guests that emit without end.
//! Runs are walked in the order of their numbers (`seq`) and counted by their ordinals, see `schema.rs`. A walk passes over
//! those that have not ended, and goes on where it was; every ten seconds one begins anew and meets those that have ended since.
//! It ends at the first run that stays and was accepted too late for any behind it to be old.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use crate::apply::Counters;
use crate::clock::Clock;
use crate::codes::{FIRST_TERMINAL, IdBytes, int, uint};

/// Most rows deleted at once.
const CHUNK: u64 = 500;
/// Least rows deleted after a group; with as many again as the group has, deleting keeps pace with writing.
const FLOOR: u64 = 32;
/// How often a walk begins anew, and how long it waits after a failure.
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
    /// The walk goes on at this number.
    from: u64,
    /// No run whose ordinal is below this could go when the last walk ended.
    kept_from: u64,
    /// The walk has not come to its end.
    walking: bool,
    /// Events or keys are left that could go.
    busy: bool,
    next_look: Instant,
    not_before: Instant,
}

/// How far a step walked.
struct Walked {
    deleted: u64,
    /// The next one goes on at this number.
    to: u64,
    more: bool,
}

impl Retention {
    pub(crate) fn new(keep: Keep, clock: Clock) -> Self {
        let now = Instant::now();
        Self {
            keep,
            clock,
            from: 0,
            kept_from: 0,
            walking: true,
            busy: false,
            next_look: now,
            not_before: now,
        }
    }

    /// Whether there is something to do at once.
    pub(crate) fn is_due(&self, next_ordinal: u64) -> bool {
        // A few too many are let stand, or each group would have a transaction of deleting behind it.
        let slack = (self.keep.runs / 8).min(256);
        let over = next_ordinal.saturating_sub(self.kept_from) > self.keep.runs.saturating_add(slack);
        let now = Instant::now();
        now >= self.not_before && (self.walking || self.busy || over || now >= self.next_look)
    }

    /// Something failed: not again before a while.
    pub(crate) fn pause(&mut self) {
        self.not_before = Instant::now() + EVERY;
    }

    /// Deletes one chunk; gives the number of runs deleted. Where it fails it has decided nothing.
    pub(crate) fn step(
        &mut self,
        conn: &Connection,
        counters: Counters,
        group: usize,
    ) -> rusqlite::Result<u64> {
        if !self.is_due(counters.next_ordinal) {
            return Ok(0);
        }
        let now = Instant::now();
        let anew = now >= self.next_look && !self.walking;
        let from = if anew { 0 } else { self.from };
        let chunk = if group == 0 { CHUNK } else { (2 * group as u64).clamp(FLOOR, CHUNK) };
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let walked = self.runs(conn, counters, from, chunk)?;
        let more_events = self.events(conn, counters, chunk)?;
        let more_keys = self.keys(conn, chunk)?;
        conn.prepare_cached("COMMIT")?.execute([])?;
        if anew {
            self.next_look = now + EVERY;
        }
        self.from = walked.to;
        if !walked.more {
            self.kept_from = self.by_count(counters);
        }
        self.walking = walked.more;
        self.busy = more_events || more_keys;
        Ok(walked.deleted)
    }

    /// Ended runs with an ordinal below this are too many.
    const fn by_count(&self, counters: Counters) -> u64 {
        counters.next_ordinal.saturating_sub(self.keep.runs)
    }

    fn runs(&self, conn: &Connection, counters: Counters, from: u64, chunk: u64) -> rusqlite::Result<Walked> {
        let newest = counters.next_ordinal - 1;
        let by_count = self.by_count(counters);
        let cutoff = self.clock.age_ms().saturating_sub(self.keep.age.as_millis() as u64);
        let mut walked = Walked { deleted: 0, to: from, more: false };
        let mut seen = 0;
        let mut rows = conn.prepare_cached(
            "SELECT seq, tenant, status, ended_at, labels, iif(labels > 0, record, NULL), run_id,
                 coalesce(ordinal, seq)
             FROM runs WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = rows.query(params![int(from), int(chunk)])?;
        let mut drop_run = conn.prepare_cached("DELETE FROM runs WHERE seq = ?1")?;
        let mut drop_label =
            conn.prepare_cached("DELETE FROM labels WHERE tenant = ?1 AND label = ?2 AND run_id = ?3")?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            let ordinal = uint(row.get(7)?);
            let run_id: IdBytes = row.get(6)?;
            walked.to = uint(seq);
            if ordinal >= newest {
                return Ok(walked);
            }
            seen += 1;
            if row.get::<_, i64>(2)? >= FIRST_TERMINAL {
                let accepted = run_id.run_id().unix_ms();
                // A frozen run of version 1 has no end.
                let ended = row.get::<_, Option<i64>>(3)?.map_or(accepted, uint);
                if ordinal >= by_count && ended >= cutoff {
                    if accepted >= cutoff {
                        return Ok(walked);
                    }
                    // It took long: what was accepted after it may have ended before it.
                    walked.to += 1;
                    continue;
                }
                if row.get::<_, i64>(4)? > 0 {
                    for label in labels_of(row.get_ref(5)?.as_blob().unwrap_or_default()) {
                        drop_label.execute(params![row.get::<_, i64>(1)?, label, run_id])?;
                    }
                }
                drop_run.execute([seq])?;
                walked.deleted += 1;
            }
            walked.to += 1;
        }
        walked.more = seen == chunk;
        Ok(walked)
    }

    fn events(&self, conn: &Connection, counters: Counters, chunk: u64) -> rusqlite::Result<bool> {
        let of_runs: Option<i64> = conn
            .prepare_cached("SELECT first_event FROM runs ORDER BY seq LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let most = self.keep.runs.saturating_mul(EVENTS_PER_RUN).max(EVENTS_LEAST);
        let by_count = counters.next.saturating_sub(most);
        // The newest row stays, so that its number is not given again.
        let floor = of_runs.map_or(0, uint).max(by_count).min(counters.newest());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use void_api::{CidText, Mode, RunId, RunRecord, Status, Target, Timestamp};

    use super::*;
    use crate::apply::Applier;
    use crate::change::{Accept, Change, RunRow};

    const KEEP: u64 = 50;

    fn record(n: u64) -> RunRecord {
        let target = Target::Cid(CidText::raw([7; 32]));
        RunRecord::accepted(
            RunId::new(1_000, n.into()),
            Timestamp(1_000),
            Mode::Live,
            target,
            "add".to_owned(),
        )
    }

    /// With an event source, whose number is 1.
    fn database() -> Connection {
        let mut conn = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&mut conn, 0).unwrap();
        crate::open::source_number(&conn, "here").unwrap();
        conn
    }

    fn row(record: &RunRecord) -> RunRow {
        RunRow::new(&Arc::from("a"), record).unwrap()
    }

    fn ended(mut record: RunRecord) -> RunRow {
        record.status = Status::Finished;
        record.finished_at = Some(Timestamp(2_000));
        row(&record)
    }

    /// Steps until nothing is to be done at once; how many runs that deleted.
    fn settle(retention: &mut Retention, conn: &Connection, counters: Counters) -> u64 {
        let mut deleted = 0;
        for _ in 0..100 {
            if !retention.is_due(counters.next_ordinal) {
                return deleted;
            }
            deleted += retention.step(conn, counters, 1).unwrap();
        }
        unreachable!("it does not come to an end");
    }

    #[test]
    fn many_that_have_not_ended_hold_up_nobody_and_go_when_they_have() {
        const OPEN: u64 = 700;
        let conn = database();
        let mut applier = Applier::new(&conn, 1).unwrap();
        let mut apply = |change| {
            applier.apply(&conn, &change).unwrap();
            applier.counters
        };
        for n in 0..OPEN {
            let accept = Accept::queued(row(&record(n)), Default::default(), Default::default(), None);
            apply(Change::Accept(Box::new(accept)));
        }
        for n in OPEN..OPEN + 200 {
            apply(Change::Accept(Box::new(Accept::ended(ended(record(n))))));
        }
        let counters = apply(Change::Ended(Box::new(ended(record(3)))));
        let keep = Keep { runs: KEEP, age: Duration::from_secs(u64::MAX / 1_000_000) };
        let mut retention = Retention::new(keep, Clock::start(None));
        assert_eq!(settle(&mut retention, &conn, counters), 150 + 1);

        for n in (0..OPEN).filter(|n| *n != 3) {
            apply(Change::Ended(Box::new(ended(record(n)))));
        }
        assert_eq!(settle(&mut retention, &conn, counters), 0, "its time has not come");
        retention.next_look = Instant::now();
        assert_eq!(settle(&mut retention, &conn, counters), OPEN - 1);
        let left: i64 = conn.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(uint(left), KEEP);
    }

    #[test]
    fn one_that_ended_late_does_not_keep_what_was_accepted_after_it() {
        const HOUR_MS: u64 = 3_600_000;
        let conn = database();
        let mut applier = Applier::new(&conn, 1).unwrap();
        let clock = Clock::start(None);
        // Hours since the acceptance, and since the end.
        let runs = [(72, 0), (71, 70), (70, 69), (69, 1), (68, 67), (0, 0), (67, 66), (0, 0)];
        for (n, (accepted, over)) in (0u64..).zip(runs) {
            let mut run = record(n);
            run.run_id = RunId::new(clock.now_ms() - accepted * HOUR_MS, n.into());
            run.status = Status::Finished;
            run.finished_at = Some(Timestamp(clock.now_ms() - over * HOUR_MS));
            applier.apply(&conn, &Change::Accept(Box::new(Accept::ended(row(&run))))).unwrap();
        }
        let keep = Keep { runs: KEEP, age: Duration::from_secs(24 * 3600) };
        let mut retention = Retention::new(keep, clock);
        // The last one of them lies behind a fresh one, which ends each walk.
        assert_eq!(settle(&mut retention, &conn, applier.counters), 3);
    }
}
