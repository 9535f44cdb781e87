//! The thread that writes: takes what waits and has it [committed](Committer). Between groups it deletes what is past its
//! time, and it survives failures of the storage by opening the database anew.
//!
//! ```text
//!  take group ──► commit ──► retention, checkpoint ──► lend the committer
//!      ▲            │ storage failed: answer the error to all, keep the batches that must be committed, open anew
//!      └────────────┴─────────────────────────────────────┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tracing::{error, warn};

use crate::checkpoint::Checkpointer;
use crate::clock::JumpWatch;
use crate::committer::{Committer, Failed, Told};
use crate::error::{Class, WriteError};
use crate::queue::{Job, Queue, Taken};
use crate::retention::Retention;
use crate::schema;

/// How long batches that must be committed wait between two tries.
const RETRY: Duration = Duration::from_millis(100);
/// How long an idle writer waits after a failure before it tries whether the storage takes a page again: nobody may come
/// to a service that says it is not ready, so nobody else would find out.
const PROBE: Duration = Duration::from_secs(1);
/// How long an idle writer sleeps before it looks for runs past their time.
const IDLE: Duration = Duration::from_secs(10);

/// What the writer thread owns.
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) full_durability: bool,
    pub(crate) source: Arc<str>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) told: Arc<Told>,
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
            let ready = conn.take().map_or_else(|| self.reopen(), Ok).and_then(|conn| self.committer(conn));
            let left = match ready {
                Ok(committer) => self.serve(Box::new(committer), &mut owed),
                Err(error) => {
                    warn!(%error, "the database connection could not be prepared");
                    self.refuse_group(&error, &mut owed)
                }
            };
            if matches!(left, Leave::Closed) {
                return;
            }
        }
    }

    fn reopen(&self) -> rusqlite::Result<Connection> {
        let mut conn = Connection::open_with_flags(&self.path, crate::open::flags())?;
        schema::prepare_writer(&conn, self.full_durability)?;
        self.checkpointer.watch(&mut conn)?;
        Ok(conn)
    }

    fn committer(&self, conn: Connection) -> rusqlite::Result<Committer> {
        let source = crate::open::source_number(&conn, &self.source)?;
        Committer::new(conn, source, Arc::clone(&self.told))
    }

    /// The storage cannot even be opened: answers what waits, so that nobody hangs.
    fn refuse_group(&mut self, error: &rusqlite::Error, owed: &mut Vec<Job>) -> Leave {
        let mut group = Vec::new();
        let (taken, _) = self.queue.take(None, &mut group, RETRY);
        self.fail(group, &WriteError::from_sqlite(error), owed);
        if taken == Taken::Closed { Leave::Closed } else { Leave::Reopen }
    }

    fn serve(&mut self, first: Box<Committer>, owed: &mut Vec<Job>) -> Leave {
        let mut lent = Some(first);
        let mut fresh = Vec::new();
        loop {
            let patience = match &lent {
                _ if !owed.is_empty() => RETRY,
                _ if self.told.failing() => PROBE,
                Some(committer) if self.retention.is_due(committer.counters().next_ordinal) => Duration::ZERO,
                _ => IDLE,
            };
            // What is owed goes first, or a run could end before it began: nobody else writes until then.
            let kept = if owed.is_empty() { None } else { lent.take() };
            let (taken, back) = self.queue.take(lent.take(), &mut fresh, patience);
            let Some(mut committer) = kept.or(back) else { return Leave::Reopen };
            // Where this fails, the storage only counts as locked sooner.
            let _ = committer.set_patient(true);
            let owes = !owed.is_empty();
            let mut group = std::mem::take(owed);
            group.append(&mut fresh);
            if group.is_empty() && taken == Taken::Closed {
                self.checkpointer.last(committer.conn());
                return Leave::Closed;
            }
            let size = group.len() + committer.take_untidied();
            if !group.is_empty() {
                if let Err(Failed { class, why, jobs }) = committer.commit(group) {
                    self.fail(jobs, &why, owed);
                    if taken == Taken::Closed && owes {
                        // The store is being closed and the storage still fails: nobody will try again.
                        owed.drain(..).for_each(|job| job.answer(Err(WriteError::Closed)));
                        self.checkpointer.last(committer.conn());
                        return Leave::Closed;
                    }
                    if class == Class::Io || class == Class::Damaged {
                        return Leave::Reopen;
                    }
                }
            } else if self.told.failing() && !self.probe(committer.conn()) {
                return Leave::Reopen;
            }
            self.tidy(&committer, size);
            lent = Some(committer);
        }
    }

    /// Tries whether the storage takes a page again; `false`: the connection is in doubt.
    fn probe(&self, conn: &Connection) -> bool {
        let probed = conn.execute_batch(
            // Writes a page that says what it said before.
            "BEGIN IMMEDIATE; UPDATE sources SET name = name; COMMIT",
        );
        match probed {
            Ok(()) => self.told.mended(),
            Err(_) if !conn.is_autocommit() => return conn.execute_batch("ROLLBACK").is_ok(),
            Err(_) => {}
        }
        true
    }

    /// Answers a failure of the storage to all, but keeps those that must be committed.
    fn fail(&self, jobs: Vec<Job>, why: &WriteError, owed: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let counts = &self.told.counts;
        counts.failed_groups.fetch_add(1, Ordering::Relaxed);
        if counts.failing.swap(1, Ordering::Relaxed) == 0 {
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
    fn tidy(&mut self, committer: &Committer, group: usize) {
        self.jumps.look();
        let conn = committer.conn();
        let begin = Instant::now();
        match self.retention.step(conn, committer.counters(), group) {
            Ok(0) => {}
            Ok(deleted) => {
                self.told.counts.deleted_runs.fetch_add(deleted, Ordering::Relaxed);
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
