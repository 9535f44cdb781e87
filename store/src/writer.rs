//! The one thread that writes: takes what waits, applies it in one transaction, commits, answers. Between groups it
//! deletes what is past its time, and it survives failures of the storage by opening the database anew.
//!
//! ```text
//!  take group ──► BEGIN ─► apply each batch ─► COMMIT ──► answer all ─► tell event readers ─► retention
//!      ▲                        │                 │
//!      │                        │ refused         │ storage failed: ROLLBACK, answer the error to all,
//!      │                        ▼                 │ keep the batches that must be committed, open anew
//!      │                 that batch alone         ▼
//!      └───────────────────────────────────────────
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::apply::{Applier, Counters, Fault, explain};
use crate::change::Change;
use crate::checkpoint::Checkpointer;
use crate::clock::JumpWatch;
use crate::error::{Class, WriteError, classify};
use crate::queue::{Committed, Job, Queue, Taken};
use crate::retention::Retention;
use crate::schema;
use crate::values::Values;

/// How long batches that must be committed wait between two tries.
const RETRY: Duration = Duration::from_millis(100);
/// How long an idle writer waits after a failure before it tries whether the storage takes a page again: nobody may come
/// to a service that says it is not ready, so nobody else would find out.
const PROBE: Duration = Duration::from_secs(1);
/// How long an idle writer sleeps before it looks for runs past their time.
const IDLE: Duration = Duration::from_secs(10);

/// Counts for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) groups: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) failed_groups: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) deleted_runs: AtomicU64,
    pub(crate) failing: AtomicU64,
}

/// What the writer thread owns.
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) full_durability: bool,
    pub(crate) source: Arc<str>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) last_event: watch::Sender<u64>,
    /// Told of every value before and after it is written.
    pub(crate) values: Arc<Values>,
    pub(crate) jumps: JumpWatch,
    pub(crate) retention: Retention,
    pub(crate) checkpointer: Checkpointer,
}

/// Why the work on one connection ended.
enum Leave {
    Closed,
    /// The connection is in doubt.
    Reopen,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self, first: Connection) {
        let mut owed = Vec::new();
        let mut conn = Some(first);
        loop {
            let ready = match conn.take() {
                Some(conn) => Ok(conn),
                None => self.reopen(),
            };
            let ready = match ready {
                Ok(conn) => conn,
                Err(error) => {
                    if matches!(self.refuse_group(&error, &mut owed), Leave::Closed) {
                        return;
                    }
                    continue;
                }
            };
            match self.serve(&ready, &mut owed) {
                Ok(Leave::Closed) => {
                    self.checkpointer.last(&ready);
                    return;
                }
                Ok(Leave::Reopen) => {}
                Err(error) => {
                    warn!(%error, "the database connection could not be prepared");
                    if matches!(self.refuse_group(&error, &mut owed), Leave::Closed) {
                        return;
                    }
                }
            }
        }
    }

    fn reopen(&self) -> rusqlite::Result<Connection> {
        let mut conn = Connection::open_with_flags(&self.path, crate::open::flags())?;
        schema::prepare_writer(&conn, self.full_durability)?;
        self.checkpointer.watch(&mut conn)?;
        Ok(conn)
    }

    /// The storage cannot even be opened: answers what waits, so that nobody hangs.
    fn refuse_group(&mut self, error: &rusqlite::Error, owed: &mut Vec<Job>) -> Leave {
        let mut group = Vec::new();
        let taken = self.queue.take(&mut group, RETRY);
        self.fail(group, &WriteError::from_sqlite(error), owed);
        if taken == Taken::Closed { Leave::Closed } else { Leave::Reopen }
    }

    fn serve(&mut self, conn: &Connection, owed: &mut Vec<Job>) -> rusqlite::Result<Leave> {
        let source = crate::open::source_number(conn, &self.source)?;
        let mut applier = Applier::new(conn, source)?;
        self.tell(applier.counters.last_event());
        let mut group = Vec::new();
        loop {
            let patience = if !owed.is_empty() {
                RETRY
            } else if self.failing() {
                PROBE
            } else if self.retention.is_due(applier.counters.next_run) {
                Duration::ZERO
            } else {
                IDLE
            };
            // What is owed goes first, or a run could end before it began.
            group.append(owed);
            let owes = !group.is_empty();
            let mut fresh = Vec::new();
            let taken = self.queue.take(&mut fresh, patience);
            group.append(&mut fresh);
            if group.is_empty() && taken == Taken::Closed {
                return Ok(Leave::Closed);
            }
            let size = group.len();
            if size > 0 {
                let jobs = std::mem::take(&mut group);
                let outcome = self.commit(conn, &mut applier, jobs, owed);
                if taken == Taken::Closed && owes && outcome.is_err() {
                    // The store is being closed and the storage still fails: nobody will try again.
                    for job in owed.drain(..) {
                        job.answer(Err(WriteError::Closed));
                    }
                    return Ok(Leave::Closed);
                }
                if outcome == Err(Class::Io) || outcome == Err(Class::Damaged) {
                    return Ok(Leave::Reopen);
                }
            } else if self.failing() {
                match probe(conn, source) {
                    Ok(()) => self.mended(),
                    Err(_) if !conn.is_autocommit() => conn.execute_batch("ROLLBACK")?,
                    Err(_) => {}
                }
            }
            self.tidy(conn, &applier, size);
        }
    }

    /// Commits a group, or answers why not. An error means that the storage failed.
    fn commit(
        &mut self,
        conn: &Connection,
        applier: &mut Applier<'_>,
        jobs: Vec<Job>,
        owed: &mut Vec<Job>,
    ) -> Result<(), Class> {
        let before = applier.counters;
        let writing = self.values.writing(&jobs);
        match transact(conn, applier, &jobs) {
            Ok(effects) => {
                writing.done(&jobs, &effects);
                self.succeed(jobs, effects, applier.counters);
                Ok(())
            }
            Err(error) => {
                undo(conn, applier, before);
                drop(writing);
                let class = classify(&error);
                if class == Class::Change {
                    return self.commit_one_by_one(conn, applier, jobs, owed);
                }
                self.fail(jobs, &WriteError::from_sqlite(&error), owed);
                Err(class)
            }
        }
    }

    /// One batch of the group is at fault: each gets its own transaction, so that it harms no other.
    fn commit_one_by_one(
        &mut self,
        conn: &Connection,
        applier: &mut Applier<'_>,
        jobs: Vec<Job>,
        owed: &mut Vec<Job>,
    ) -> Result<(), Class> {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let before = applier.counters;
            let writing = self.values.writing(std::slice::from_ref(&job));
            match transact(conn, applier, std::slice::from_ref(&job)) {
                Ok(effects) => {
                    writing.done(std::slice::from_ref(&job), &effects);
                    self.succeed(vec![job], effects, applier.counters);
                }
                Err(error) => {
                    undo(conn, applier, before);
                    drop(writing);
                    let class = classify(&error);
                    if class == Class::Change {
                        self.counts.refused.fetch_add(1, Ordering::Relaxed);
                        let refusal = explain(&job.batch.changes, &error);
                        job.answer(Err(refusal));
                        continue;
                    }
                    let rest = std::iter::once(job).chain(jobs).collect();
                    self.fail(rest, &WriteError::from_sqlite(&error), owed);
                    return Err(class);
                }
            }
        }
        Ok(())
    }

    fn succeed(&self, jobs: Vec<Job>, effects: Vec<Effect>, counters: Counters) {
        self.counts.groups.fetch_add(1, Ordering::Relaxed);
        self.counts.batches.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        self.mended();
        let last_event = counters.last_event();
        for (mut job, effect) in jobs.into_iter().zip(effects) {
            match effect {
                Ok(removed) => {
                    confirm_keys(&mut job);
                    job.answer(Ok(Committed { last_event, removed }));
                }
                Err(refusal) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    job.answer(Err(refusal));
                }
            }
        }
        self.tell(last_event);
    }

    fn failing(&self) -> bool {
        self.counts.failing.load(Ordering::Relaxed) != 0
    }

    fn mended(&self) {
        if self.failing() && self.counts.failing.swap(0, Ordering::Relaxed) != 0 {
            info!("the database can be written again");
        }
    }

    /// Wakes those who stream events, if there are new ones.
    fn tell(&self, last_event: u64) {
        self.last_event.send_if_modified(|seen| {
            let newer = *seen != last_event;
            *seen = last_event;
            newer
        });
    }

    /// Answers a failure of the storage to all, but keeps those that must be committed.
    fn fail(&self, jobs: Vec<Job>, why: &WriteError, owed: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.counts.failed_groups.fetch_add(1, Ordering::Relaxed);
        if self.counts.failing.swap(1, Ordering::Relaxed) == 0 {
            error!(error = %why, batches = jobs.len(), "the database could not be written");
        }
        for job in jobs {
            if job.batch.until_committed {
                owed.push(job);
            } else {
                job.answer(Err(why.clone()));
            }
        }
    }

    /// Deletes a little of what is past its time, and has the WAL copied when it is long.
    fn tidy(&mut self, conn: &Connection, applier: &Applier<'_>, group: usize) {
        self.jumps.look();
        let begin = Instant::now();
        match self.retention.step(conn, applier.counters, group) {
            Ok(0) => {}
            Ok(deleted) => {
                self.counts.deleted_runs.fetch_add(deleted, Ordering::Relaxed);
                let took = begin.elapsed();
                if took > Duration::from_millis(100) {
                    warn!(deleted, ?took, "deleting old runs was slow");
                }
            }
            Err(error) => {
                let _ = conn.execute_batch("ROLLBACK");
                self.retention.pause();
                warn!(%error, "old runs could not be deleted; trying again later");
            }
        }
        self.checkpointer.after_commit(conn);
    }
}

/// Writes a page that says what it said before.
fn probe(conn: &Connection, source: i64) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute("UPDATE sources SET name = name WHERE id = ?1", [source])?;
    conn.execute_batch("COMMIT")
}

/// What a batch did: how many values it removed, or that it was refused and left nothing behind.
pub(crate) type Effect = Result<u32, WriteError>;

/// One transaction for all jobs, and what each of them did.
fn transact(conn: &Connection, applier: &mut Applier<'_>, jobs: &[Job]) -> rusqlite::Result<Vec<Effect>> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut effects = Vec::with_capacity(jobs.len());
    for job in jobs {
        effects.push(match apply_batch(conn, applier, &job.batch.changes) {
            Ok(removed) => Ok(removed),
            Err(Fault::Refused(refusal)) => Err(refusal),
            Err(Fault::Sql(error)) => return Err(error),
        });
    }
    conn.prepare_cached("COMMIT")?.execute([])?;
    Ok(effects)
}

/// A single change checks before it writes; several need a savepoint to fail as one.
fn apply_batch(conn: &Connection, applier: &mut Applier<'_>, changes: &[Change]) -> Result<u32, Fault> {
    if let [change] = changes {
        return applier.apply(change);
    }
    let before = applier.counters;
    conn.prepare_cached("SAVEPOINT batch")?.execute([])?;
    let mut removed = 0;
    for change in changes {
        match applier.apply(change) {
            Ok(more) => removed += more,
            Err(Fault::Refused(refusal)) => {
                conn.execute_batch("ROLLBACK TO batch; RELEASE batch")?;
                applier.rolled_back(before);
                return Err(Fault::Refused(refusal));
            }
            Err(error) => return Err(error),
        }
    }
    conn.prepare_cached("RELEASE batch")?.execute([])?;
    Ok(removed)
}

fn undo(conn: &Connection, applier: &mut Applier<'_>, before: Counters) {
    // SQLite may have rolled back by itself, so this may fail.
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
    applier.rolled_back(before);
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
