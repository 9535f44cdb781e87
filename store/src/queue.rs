//! What waits for the writer: a bounded list that the writer takes whole, and the futures of those who wait.
//! No SQL, and no thread of its own.
//!
//! Here also lies the [`Committer`] while nobody writes. The writer thread takes it together with a group; a caller may
//! take it instead where nothing waits. So batches are committed in the order in which they came, whoever commits them.
//!
//! A commit costs some 40 µs of CPU however many batches it holds, so a group is worth a short wait: but only where others
//! will come while it waits. Who will submit something says so beforehand ([`Expected`]), and three of four that are there or
//! to come are the most that is waited for: the others keep the processors at work meanwhile. So a lone caller that
//! awaits each commit never waits. How soon they come is found by trial, see [`Linger`].

mod lent;
mod linger;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::change::Batch;
use crate::committer::Committer;
use crate::error::WriteError;
use lent::Lent;
pub use linger::Expected;
use linger::Linger;

/// Batches that may wait before new runs are refused.
const MAX_JOBS: usize = 16_384;
/// Bytes that may wait before new runs are refused.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Batches in one group: enough that a commit costs nothing, few enough that the first of them waits a millisecond.
const MAX_GROUP: usize = 256;

/// What a commit tells: the batch is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The newest number when this batch was written; reading events up to it sees the batch's own.
    pub newest: u64,
    /// Values that [`crate::Change::KvDelete`] found and removed.
    pub removed: u32,
}

/// Resolves when the group that holds the batch has been committed, or has failed. Dropping it does not undo the batch.
#[derive(Debug)]
#[must_use = "a batch is only accepted when its commit has been awaited"]
pub struct Commit(oneshot::Receiver<Result<Committed, WriteError>>);

impl Commit {
    /// Of a store that writes nothing.
    pub(crate) fn unwritten(batch: Batch) -> Self {
        let (job, commit) = Job::new(batch);
        job.answer(Ok(Committed { newest: 0, removed: 0 }));
        commit
    }

    /// Waits on a thread that may block.
    ///
    /// # Errors
    /// As for awaiting it.
    pub fn wait(self) -> Result<Committed, WriteError> {
        self.0.blocking_recv().unwrap_or(Err(WriteError::Closed))
    }
}

impl Future for Commit {
    type Output = Result<Committed, WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|end| end.unwrap_or(Err(WriteError::Closed)))
    }
}

/// A batch and the one who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    done: oneshot::Sender<Result<Committed, WriteError>>,
}

impl Job {
    pub(crate) fn new(batch: Batch) -> (Self, Commit) {
        let (done, commit) = oneshot::channel();
        (Self { batch, done }, Commit(commit))
    }

    /// Whoever waited may have gone: that is no error.
    pub(crate) fn answer(self, end: Result<Committed, WriteError>) {
        let _ = self.done.send(end);
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    bytes: usize,
    closed: bool,
    /// The writer sleeps and wants to be woken when so many wait; 0: it does not sleep.
    wake_at: usize,
    linger: Linger,
    committer: Lent,
    /// The writer thread waits for the committer: nobody else gets it.
    wanted: bool,
    /// The writer thread should look after the storage.
    untidy: bool,
}

impl State {
    fn hand_over(&mut self, group: &mut Vec<Job>) {
        if self.jobs.len() <= MAX_GROUP && group.is_empty() {
            std::mem::swap(&mut self.jobs, group);
        } else {
            let many = self.jobs.len().min(MAX_GROUP);
            group.extend(self.jobs.drain(..many));
        }
        let taken: usize = group.iter().map(|job| job.batch.weight()).sum();
        self.bytes = if self.jobs.is_empty() { 0 } else { self.bytes.saturating_sub(taken) };
    }
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// How many will submit a batch soon.
    expected: Arc<AtomicUsize>,
}

/// What the writer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Jobs are in the list given.
    Jobs,
    /// Nothing came in time.
    Nothing,
    /// Nothing is left and nothing will come.
    Closed,
}

impl Queue {
    /// Says that a batch will be submitted.
    pub(crate) fn expect(&self) -> Expected {
        Expected::one_more(&self.expected)
    }

    /// Queues a batch. Batches that must be committed are admitted even when the list is full.
    pub(crate) fn push(&self, batch: Batch) -> Commit {
        let (job, commit) = Job::new(batch);
        self.push_job(job);
        commit
    }

    /// As [`Queue::push`].
    pub(crate) fn push_job(&self, job: Job) {
        let weight = job.batch.weight();
        let must = job.batch.until_committed;
        let mut state = self.state.lock();
        let refusal = if state.closed {
            Some(WriteError::Closed)
        } else if !must && (state.jobs.len() >= MAX_JOBS || state.bytes + weight > MAX_BYTES) {
            Some(WriteError::Backlog)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(state);
            return job.answer(Err(refusal));
        }
        state.bytes += weight;
        state.jobs.push(job);
        let wake = state.wake_at != 0 && (state.jobs.len() >= state.wake_at);
        if wake {
            state.wake_at = 0;
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// For the writer thread: lends the committer to callers while it waits for a group, up to `patience`, then moves the
    /// group into `group` and gives the committer back, unless a caller lost it.
    pub(crate) fn take(
        &self,
        committer: Option<Box<Committer>>,
        group: &mut Vec<Job>,
        patience: Duration,
    ) -> (Taken, Option<Box<Committer>>) {
        let mut state = self.state.lock();
        let lends = committer.is_some();
        state.committer = committer.map_or(Lent::No, Lent::Here);
        let taken = self.wait(&mut state, patience);
        let committer = self.fetch(&mut state);
        if lends && committer.is_none() {
            // It was lost. What waits does so until there is another one.
            return (Taken::Nothing, None);
        }
        if taken == Taken::Jobs {
            state.hand_over(group);
        }
        (taken, committer)
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, patience: Duration) -> Taken {
        let deadline = Instant::now() + patience;
        while state.jobs.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            if std::mem::take(&mut state.untidy) {
                return Taken::Nothing;
            }
            state.wake_at = 1;
            let late = self.wake.wait_until(state, deadline).timed_out();
            state.wake_at = 0;
            if late && state.jobs.is_empty() && !state.closed {
                return Taken::Nothing;
            }
        }
        self.linger(state);
        Taken::Jobs
    }

    /// Nothing more is taken in; what waits is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }

    /// Batches that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// Whether new runs would be refused for lack of room.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.jobs.len() >= MAX_JOBS || state.bytes >= MAX_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_refuses_all_but_what_must_be_committed() {
        let queue = Queue::default();
        let waiting: Vec<_> = (0..MAX_JOBS).map(|_| queue.push(Batch::new())).collect();
        assert!(queue.is_full());
        assert_eq!(queue.push(Batch::new()).wait(), Err(WriteError::Backlog));
        let must = queue.push(Batch::new().until_committed());
        let mut group = Vec::new();
        let mut taken = 0;
        while taken <= MAX_JOBS {
            assert_eq!(queue.take(None, &mut group, Duration::ZERO).0, Taken::Jobs);
            assert!(group.len() <= MAX_GROUP);
            taken += group.len();
            group.drain(..).for_each(|job| job.answer(Ok(Committed { newest: 1, removed: 0 })));
        }
        assert!(must.wait().is_ok() && waiting.into_iter().all(|commit| commit.wait().is_ok()));
        queue.close();
        assert_eq!(queue.take(None, &mut group, Duration::ZERO).0, Taken::Closed);
        assert_eq!(queue.push(Batch::new().until_committed()).wait(), Err(WriteError::Closed));
    }
}
