//! The store as its users see it: opening, submitting, reserving keys, reading.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tracing::{error, warn};
use void_api::RunId;

use crate::change::{Batch, KvKey};
use crate::checkpoint::Checkpointer;
use crate::clock::{Clock, JumpWatch};
use crate::committer::{Counts, Told};
use crate::error::{ReadError, StoreError};
use crate::keys::{Claim, Fingerprint, Keys, Reserve};
use crate::list::{ListFilter, RunPage};
use crate::open;
use crate::pool::Pool;
use crate::queue::{Commit, Expected, Job, Queue};
use crate::reader::{EventFilter, EventPage, Reader, StoredRun};
use crate::recovery::{self, Recovery};
use crate::retention::{Keep, Retention};
use crate::values::Values;
use crate::writer::Writer;

/// Threads that read for async callers.
const READERS: usize = 2;

/// Built for `cargo xtask bench store`, as the side that has no store.
const UNWRITTEN: bool = cfg!(feature = "bench-no-store");

/// What the store needs to know.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `WASM_STATE_DIR`; made with mode 0700 where it does not exist.
    pub dir: PathBuf,
    /// `WASM_DURABILITY=full`: a commit waits for the disk, and survives a power cut. Otherwise it survives the death of
    /// the process and not that of the machine: a power cut may cost the last moments, never the database.
    pub full_durability: bool,
    /// `WASM_RUNS_KEEP`: ended runs kept.
    pub runs_keep: u64,
    /// `WASM_RUNS_KEEP_HOURS`: how long ended runs are kept.
    pub runs_keep_hours: u64,
    /// The node's name: events are written with the source `/void-wasm/<node>`.
    pub node: String,
}

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Groups committed.
    pub groups: u64,
    /// Batches committed.
    pub batches: u64,
    /// Those of them that callers committed on their own threads, of one batch each.
    pub alone: u64,
    /// Groups that the storage failed.
    pub failed_groups: u64,
    /// Batches refused for what they asked.
    pub refused: u64,
    /// Runs deleted by age or number.
    pub deleted_runs: u64,
    /// Batches that wait.
    pub waiting: u64,
    /// Whether the last group failed: the service should say that it is not ready.
    pub failing: bool,
}

/// The open store. Share it by `Arc`; every method may be called from any thread. Dropping it writes what waits and
/// blocks until that is done.
pub struct Store {
    path: PathBuf,
    full_durability: bool,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    keys: Arc<Keys>,
    values: Arc<Values>,
    clock: Clock,
    greatest: Option<RunId>,
    newest: watch::Receiver<u64>,
    writer: Option<JoinHandle<()>>,
    loader: Option<JoinHandle<()>>,
    pool: Option<Pool>,
    /// Held until everything above has ended.
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory, migrates it, ends the runs that were under way, and starts its threads.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing that lies in the directory is overwritten.
    pub fn open(config: &StoreConfig) -> Result<(Self, Recovery), StoreError> {
        if UNWRITTEN {
            error!("built for a benchmark: nothing is stored, everything is lost at the end");
        }
        let mut opened = open::open(&config.dir, config.full_durability)?;
        let path = opened.path.clone();
        let failed = |error: rusqlite::Error| StoreError::from_sqlite(&path, &error);
        let clock = Clock::start(open::newest_ms(&opened.conn).map_err(failed)?);
        let source: Arc<str> = format!("/void-wasm/{}", config.node).into();
        let number = open::source_number(&opened.conn, &source).map_err(failed)?;
        let recovery = recovery::recover(&opened.conn, number, clock.now_ms()).map_err(failed)?;
        let greatest = open::greatest_id(&opened.conn).map_err(failed)?;
        let counters = crate::apply::Counters::load(&opened.conn).map_err(failed)?;

        let queue = Arc::new(Queue::default());
        let counts = Arc::new(Counts::default());
        let values = Arc::new(Values::default());
        let (tell, newest) = watch::channel(counters.newest());
        let age = Duration::from_secs(config.runs_keep_hours.saturating_mul(3600));
        let writer = Writer {
            path: opened.path.clone(),
            full_durability: config.full_durability,
            source,
            queue: Arc::clone(&queue),
            told: Arc::new(Told { counts: Arc::clone(&counts), values: Arc::clone(&values), newest: tell }),
            jumps: JumpWatch::new(clock),
            retention: Retention::new(Keep { runs: config.runs_keep, age }, clock),
            checkpointer: Checkpointer::start(opened.path.clone()).map_err(StoreError::Thread)?,
        };
        writer.checkpointer.watch(&mut opened.conn).map_err(failed)?;
        let pool = Pool::start(&opened.path, READERS).map_err(StoreError::Thread)?;
        let keys = Arc::new(Keys::new(clock.key_ms()));
        let conn = opened.conn;
        let thread = std::thread::Builder::new().name("store-write".into());
        let writer = thread.spawn(move || writer.run(conn)).map_err(StoreError::Thread)?;
        let mut store = Self {
            path: opened.path,
            full_durability: config.full_durability,
            queue,
            counts,
            keys,
            values,
            clock,
            greatest,
            newest,
            writer: Some(writer),
            loader: None,
            pool: Some(pool),
            _lock: opened.lock,
        };
        store.load_keys()?;
        Ok((store, recovery))
    }

    /// Fills the filter of idempotency keys in the background; until then fresh keys cost a read.
    fn load_keys(&mut self) -> Result<(), StoreError> {
        let (path, keys) = (self.path.clone(), Arc::clone(&self.keys));
        let thread = std::thread::Builder::new().name("store-keys".into());
        let load = move || {
            let read =
                Reader::open(&path).and_then(|reader| reader.each_key(|tenant, key| keys.learn(tenant, key)));
            match read {
                Ok(()) => keys.learned(),
                Err(error) => {
                    warn!(%error, "idempotency keys could not be preloaded; each new key costs a read")
                }
            }
        };
        self.loader = Some(thread.spawn(load).map_err(StoreError::Thread)?);
        Ok(())
    }

    /// Queues changes that are committed together or not at all. Batches are committed in the order in which they were
    /// submitted. Cheap: takes a lock for a moment, and wakes the writer only where it sleeps.
    pub fn submit(&self, batch: impl Into<Batch>) -> Commit {
        if UNWRITTEN {
            return Commit::unwritten(batch.into());
        }
        self.queue.push(batch.into())
    }

    /// As [`Store::submit`], for a caller who would wait for the commit and do nothing else: where no other batch waits or is
    /// [expected](Store::expect), it is committed on the caller's own thread, which spares two changes of thread and costs that
    /// thread the time of a few writes into the page cache. Where a commit waits for the disk (`full_durability`) or the storage
    /// is slow or fails, it goes the usual way. `own`: how many of those expected are the caller's.
    pub fn submit_alone(&self, batch: impl Into<Batch>, own: usize) -> Commit {
        if UNWRITTEN || self.full_durability || self.is_failing() {
            return self.submit(batch);
        }
        let Some(mut committer) = self.queue.borrow(own) else { return self.submit(batch) };
        let (job, commit) = Job::new(batch.into());
        let left = committer.commit_at_once(job);
        drop(committer);
        if let Err(jobs) = left {
            jobs.into_iter().for_each(|job| self.queue.push_job(job));
        }
        commit
    }

    /// Says that a batch will be submitted soon, for as long as what is returned lives: others may be written together with
    /// it, and so wait for it. Drop it before that batch is submitted, and where it takes longer than most.
    #[must_use]
    pub fn expect(&self) -> Expected {
        self.queue.expect()
    }

    /// Whether there is room for new runs; where not, [`Store::submit`] refuses all but what must be committed.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.queue.is_full()
    }

    /// Whether the last group failed: what is submitted now most likely fails too.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.counts.failing.load(Ordering::Relaxed) != 0
    }

    /// Decides what a request with an idempotency key is. Of any number of simultaneous requests with one key exactly
    /// one is [`Reserve::New`], until its reservation is dropped without a commit; the others wait for that commit.
    /// `run_id` is the run that this request would begin.
    ///
    /// # Errors
    /// The table of keys had to be read and could not be.
    pub async fn reserve(
        &self,
        tenant: &Arc<str>,
        key: &str,
        fingerprint: Fingerprint,
        run_id: RunId,
    ) -> Result<Reserve, ReadError> {
        loop {
            let now = self.clock.key_ms();
            match self.keys.claim(tenant, key, fingerprint, run_id, now) {
                Claim::Known(known) => return Ok(known.judge(&fingerprint)),
                Claim::Mine { reservation, check: false } => return Ok(Reserve::New(reservation)),
                Claim::Mine { reservation, check: true } => {
                    let (tenant, key) = (Arc::clone(tenant), key.to_owned());
                    let known = self.read(move |reader| reader.key(&tenant, &key, now)).await?;
                    return Ok(match known {
                        None => Reserve::New(reservation),
                        Some(known) => {
                            reservation.superseded(known);
                            known.judge(&fingerprint)
                        }
                    });
                }
                Claim::Wait(decided) => {
                    let _ = decided.await;
                }
            }
        }
    }

    /// One run of a tenant; `None` also where it is another tenant's.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn get(&self, tenant: &str, run_id: RunId) -> Result<Option<StoredRun>, ReadError> {
        let tenant = tenant.to_owned();
        self.read(move |reader| reader.get(&tenant, run_id)).await
    }

    /// Runs of a tenant, newest first.
    ///
    /// # Errors
    /// [`ReadError::Cursor`], or the database cannot be read.
    pub async fn list(&self, tenant: &str, filter: ListFilter) -> Result<RunPage, ReadError> {
        let tenant = tenant.to_owned();
        self.read(move |reader| reader.list(&tenant, &filter)).await
    }

    /// Events after a number; see [`Reader::events_after`].
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn events_after(
        &self,
        after: u64,
        filter: EventFilter,
        limit: usize,
    ) -> Result<EventPage, ReadError> {
        self.read(move |reader| reader.events_after(after, &filter, limit)).await
    }

    /// The value of a key, or that there is none; sees every write whose commit was awaited.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn kv_get(&self, key: KvKey) -> Result<Option<Bytes>, ReadError> {
        if let Some(known) = self.kv_known(&key) {
            return Ok(known);
        }
        let values = Arc::clone(&self.values);
        self.read(move |reader| values.read_through(key, |key| reader.kv_get(key))).await
    }

    /// The value of a key where it is in memory: `Some(None)` where it is known that there is none. Costs a lock for a
    /// moment. Where it is `None`, ask [`Store::kv_get`].
    #[must_use]
    pub fn kv_known(&self, key: &KvKey) -> Option<Option<Bytes>> {
        self.values.known(key)
    }

    async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    {
        match &self.pool {
            Some(pool) => pool.run(read).await,
            None => Err(ReadError::Closed),
        }
    }

    /// A connection of the caller's own, for reads that may block the calling thread for their time: one read of a key
    /// or a run costs some 10 µs from the page cache, which is less than handing it to another thread.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::open(&self.path)
    }

    /// The newest committed number in the sequence of events; changes are for those who stream events. Runs without an event
    /// have numbers too.
    #[must_use]
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// The greatest id of a run that was stored when the store was opened. Lists are in the order of ids.
    #[must_use]
    pub const fn greatest_id(&self) -> Option<RunId> {
        self.greatest
    }

    /// Unix time in milliseconds of the store's clock, which does not jump while the store is open.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        StoreStats {
            groups: read(&self.counts.groups),
            batches: read(&self.counts.batches),
            alone: read(&self.counts.alone),
            failed_groups: read(&self.counts.failed_groups),
            refused: read(&self.counts.refused),
            deleted_runs: read(&self.counts.deleted_runs),
            waiting: self.queue.len() as u64,
            failing: read(&self.counts.failing) != 0,
        }
    }

    /// Takes in nothing more; what waits is still written. For a drain, before the store is dropped.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether, after [`Store::close`], all that waited has been written and the log of writes copied.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        for thread in [self.loader.take(), self.writer.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        self.pool = None;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::change::{Change, KvLimits};

    #[test]
    fn a_caller_that_panics_with_the_committer_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            dir: dir.path().to_owned(),
            full_durability: false,
            runs_keep: 10,
            runs_keep_hours: 10,
            node: "test".to_owned(),
        };
        let (store, _) = Store::open(&config).unwrap();
        let set = |value: &'static [u8]| {
            let key = KvKey { tenant: Arc::from("a"), space: String::new(), key: b"k".to_vec() };
            let limits = KvLimits { max_keys: 1, max_value_bytes: 9 };
            store.submit(Change::KvSet { key, value: Bytes::from_static(value), limits }).wait()
        };
        set(b"before").unwrap();
        let begin = std::time::Instant::now();
        let lost = catch_unwind(AssertUnwindSafe(|| {
            while begin.elapsed() < Duration::from_secs(20) {
                // The writer thread has to have brought it back.
                if let Some(_held) = store.queue.borrow(0) {
                    std::panic::resume_unwind(Box::new("lost"));
                }
            }
        }));
        assert!(lost.is_err(), "it was never there");
        set(b"after").unwrap();
        assert_eq!(store.stats().failed_groups, 0);
    }
}
