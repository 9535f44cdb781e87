//! One connection that commits groups of batches, and tells everybody whom it concerns. There is one at a time, and whoever
//! holds it writes: the writer thread, or a caller who found it lying unused and has one batch alone. It waits for nothing,
//! decides nothing about retries, and starts no thread.
//!
//! ```text
//!  BEGIN ─► apply each batch ─► COMMIT ──► answer all ─► tell event readers
//!               │                 │
//!               │ refused         │ storage failed: ROLLBACK, the batches go back to the caller
//!               ▼
//!        that batch alone
//! ```
//! A group of one statement goes without BEGIN and COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;
use tracing::info;

use crate::apply::{Applier, Counters, Fault};
use crate::change::Change;
use crate::error::{Class, WriteError, classify};
use crate::queue::{Committed, Job};
use crate::schema::BUSY_TIMEOUT;
use crate::values::Values;

/// A commit on a caller's own thread that takes longer says that the storage is slow ...
const SLOW: Duration = Duration::from_millis(5);
/// ... and for so long callers leave their batches to the writer thread, for twice as long each time it happens again ...
const SLOW_FOR: Duration = Duration::from_secs(1);
const SLOW_FOR_MOST: Duration = Duration::from_secs(60);
/// ... until so many have gone well.
const WELL: u32 = 1_000;
/// Larger batches are the writer thread's, in bytes: writing them is no matter of microseconds.
const ALONE_BYTES: usize = 64 * 1024;
/// The writer thread looks after the storage when callers have committed so often by themselves.
const TIDY_AFTER: usize = 64;

/// Counts for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) alone: AtomicU64,
    pub(crate) failed_groups: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) deleted_runs: AtomicU64,
    pub(crate) failing: AtomicU64,
}

/// Who hears of commits.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) counts: Arc<Counts>,
    /// Told of every value before and after it is written.
    pub(crate) values: Arc<Values>,
    pub(crate) newest: watch::Sender<u64>,
}

/// What a batch did: how many values it removed, or that it was refused and left nothing behind.
pub(crate) type Effect = Result<u32, WriteError>;

/// The storage failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) class: Class,
    pub(crate) why: WriteError,
    /// What is not committed.
    pub(crate) jobs: Vec<Job>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Committer {
    conn: Connection,
    /// Whether it waits for locks of other processes.
    patient: bool,
    applier: Applier,
    told: Arc<Told>,
    /// Commits by callers since the writer thread last looked after the storage.
    untidied: usize,
    pace: Pace,
}

/// When callers may commit by themselves.
#[derive(Debug)]
struct Pace {
    not_before: Option<Instant>,
    pause: Duration,
    well: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { not_before: None, pause: SLOW_FOR, well: 0 }
    }
}

impl Pace {
    fn allows(&mut self, now: Instant) -> bool {
        self.not_before = self.not_before.filter(|then| now < *then);
        self.not_before.is_none()
    }

    fn went(&mut self, well: bool, now: Instant) {
        if !well {
            self.not_before = Some(now + self.pause);
            self.pause = (self.pause * 2).min(SLOW_FOR_MOST);
            self.well = 0;
            return;
        }
        self.well = (self.well + 1).min(WELL);
        if self.well == WELL {
            self.pause = SLOW_FOR;
        }
    }
}

impl Committer {
    /// For a connection that [`crate::schema::prepare_writer`] has set up, which is patient; `source` is the number of the events' source.
    pub(crate) fn new(conn: Connection, source: i64, told: Arc<Told>) -> rusqlite::Result<Self> {
        let applier = Applier::new(&conn, source)?;
        told.of_number(applier.counters.newest());
        Ok(Self { conn, patient: true, applier, told, untidied: 0, pace: Pace::default() })
    }

    /// Says whether it waits for locks of other processes.
    ///
    /// # Errors
    /// The connection cannot be set up so.
    pub(crate) fn set_patient(&mut self, patient: bool) -> rusqlite::Result<()> {
        if self.patient != patient {
            self.conn.busy_timeout(if patient { BUSY_TIMEOUT } else { Duration::ZERO })?;
            self.patient = patient;
        }
        Ok(())
    }

    /// The connection, between groups.
    pub(crate) const fn conn(&self) -> &Connection {
        &self.conn
    }

    /// The numbers that come next.
    pub(crate) const fn counters(&self) -> Counters {
        self.applier.counters
    }

    /// Commits a group and answers all who wait for it.
    ///
    /// # Errors
    /// The storage failed, and what is not committed.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) -> Result<(), Failed> {
        let values = Arc::clone(&self.told.values);
        let before = self.applier.counters;
        let writing = values.writing(&jobs);
        match self.transact(&jobs) {
            Ok(effects) => {
                writing.done(&jobs, &effects);
                self.succeed(jobs, effects);
                Ok(())
            }
            Err(error) => {
                self.undo(before);
                drop(writing);
                match classify(&error) {
                    Class::Change if jobs.len() > 1 => self.commit_one_by_one(jobs),
                    Class::Change => {
                        jobs.into_iter().for_each(|job| self.refuse(job, &error));
                        Ok(())
                    }
                    class => Err(Failed { class, why: WriteError::from_sqlite(&error), jobs }),
                }
            }
        }
    }

    /// One batch of the group is at fault: each gets its own transaction, so that it harms no other.
    fn commit_one_by_one(&mut self, jobs: Vec<Job>) -> Result<(), Failed> {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if let Err(mut failed) = self.commit(vec![job]) {
                failed.jobs.extend(jobs);
                return Err(failed);
            }
        }
        Ok(())
    }

    fn refuse(&self, job: Job, error: &rusqlite::Error) {
        self.told.counts.refused.fetch_add(1, Ordering::Relaxed);
        job.answer(Err(WriteError::from_sqlite(error)));
    }

    /// Commits one batch on the thread of a caller who has nothing else to do, without waiting for anybody's lock.
    ///
    /// # Errors
    /// It is not committed, and the writer thread should find out why.
    pub(crate) fn commit_at_once(&mut self, job: Job) -> Result<(), Vec<Job>> {
        let begin = Instant::now();
        let small = job.batch.weight() <= ALONE_BYTES;
        if !small || !self.pace.allows(begin) || self.set_patient(false).is_err() {
            return Err(vec![job]);
        }
        let committed = self.commit(vec![job]);
        self.untidied += 1;
        let end = Instant::now();
        self.pace.went(end - begin <= SLOW && committed.is_ok(), end);
        if committed.is_ok() {
            self.told.counts.alone.fetch_add(1, Ordering::Relaxed);
        }
        committed.map_err(|failed| failed.jobs)
    }

    /// Whether the writer thread should look after the storage.
    pub(crate) const fn is_untidy(&self) -> bool {
        self.untidied >= TIDY_AFTER
    }

    /// How often callers committed since the last call.
    pub(crate) fn take_untidied(&mut self) -> usize {
        std::mem::take(&mut self.untidied)
    }

    /// One transaction for all jobs, and what each of them did.
    fn transact(&mut self, jobs: &[Job]) -> rusqlite::Result<Vec<Effect>> {
        // A statement is a transaction by itself: beginning and committing one around it costs as much again.
        let one = matches!(jobs, [job] if self.applier.is_one_statement(&job.batch.changes));
        // A transaction that an earlier failure left open must not take it in: beginning another one fails then.
        let around = !one || !self.conn.is_autocommit();
        if around {
            self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        let mut effects = Vec::with_capacity(jobs.len());
        for job in jobs {
            effects.push(match self.apply_batch(&job.batch.changes) {
                Ok(removed) => Ok(removed),
                Err(Fault::Refused(refusal)) => Err(refusal),
                Err(Fault::Sql(error)) => return Err(error),
            });
        }
        if around {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
        }
        Ok(effects)
    }

    /// A single change checks before it writes; several need a savepoint to fail as one.
    fn apply_batch(&mut self, changes: &[Change]) -> Result<u32, Fault> {
        if let [change] = changes {
            return self.applier.apply(&self.conn, change);
        }
        let before = self.applier.counters;
        self.conn.prepare_cached("SAVEPOINT batch")?.execute([])?;
        let mut removed = 0;
        for change in changes {
            match self.applier.apply(&self.conn, change) {
                Ok(more) => removed += more,
                Err(Fault::Refused(refusal)) => {
                    self.conn.execute_batch("ROLLBACK TO batch; RELEASE batch")?;
                    self.applier.rolled_back(before);
                    return Err(Fault::Refused(refusal));
                }
                Err(error) => return Err(error),
            }
        }
        self.conn.prepare_cached("RELEASE batch")?.execute([])?;
        Ok(removed)
    }

    fn undo(&mut self, before: Counters) {
        // SQLite may have rolled back by itself, so this may fail.
        if !self.conn.is_autocommit() {
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        self.applier.rolled_back(before);
    }

    fn succeed(&self, jobs: Vec<Job>, effects: Vec<Effect>) {
        let counts = &self.told.counts;
        counts.groups.fetch_add(1, Ordering::Relaxed);
        counts.batches.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.told.mended();
        let newest = self.applier.counters.newest();
        for (mut job, effect) in jobs.into_iter().zip(effects) {
            match effect {
                Ok(removed) => {
                    confirm_keys(&mut job);
                    job.answer(Ok(Committed { newest, removed }));
                }
                Err(refusal) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    job.answer(Err(refusal));
                }
            }
        }
        self.told.of_number(newest);
    }
}

impl Told {
    /// Whether the last group failed.
    pub(crate) fn failing(&self) -> bool {
        self.counts.failing.load(Ordering::Relaxed) != 0
    }

    /// The storage takes what is written.
    pub(crate) fn mended(&self) {
        if self.failing() && self.counts.failing.swap(0, Ordering::Relaxed) != 0 {
            info!("the database can be written again");
        }
    }

    /// Wakes those who stream events, if there is a newer number.
    fn of_number(&self, newest: u64) {
        self.newest.send_if_modified(|seen| {
            let newer = *seen != newest;
            *seen = newest;
            newer
        });
    }
}

fn confirm_keys(job: &mut Job) {
    for change in &mut job.batch.changes {
        if let Change::Accept(accept) = change
            && let Some(key) = accept.key.take()
        {
            key.confirm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_storage_is_left_to_the_writer_thread_for_longer_each_time() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(pace.allows(now));
            pace.went(false, now);
            assert!(!pace.allows(now + Duration::from_secs(seconds) - Duration::from_millis(1)), "{seconds}");
            now += Duration::from_secs(seconds);
        }
        (1..WELL).for_each(|_| pace.went(true, now));
        assert_eq!(pace.pause, SLOW_FOR_MOST, "one is missing");
        pace.went(true, now);
        assert_eq!(pace.pause, SLOW_FOR);
    }
}
