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

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::change::Batch;
use crate::committer::Committer;
use crate::error::WriteError;

/// Batches that may wait before new runs are refused.
const MAX_JOBS: usize = 16_384;
/// Bytes that may wait before new runs are refused.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Batches in one group: enough that a commit costs nothing, few enough that the first of them waits a millisecond.
const MAX_GROUP: usize = 256;

/// What a commit tells: the batch is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The last event that was written when this batch was; reading events up to it sees the batch's own.
    pub last_event: u64,
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
        job.answer(Ok(Committed { last_event: 0, removed: 0 }));
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

/// Where the committer is.
#[derive(Debug, Default)]
enum Lent {
    /// With the writer thread, or nowhere: the storage could not be opened.
    #[default]
    No,
    /// Here.
    Here(Box<Committer>),
    /// With a caller, who brings it back within a commit's time. The writer thread may be waiting for that.
    Out { sent_for: bool },
}

/// Somebody who will submit a batch, until this is dropped.
#[derive(Debug)]
pub struct Expected {
    of: Arc<Callers>,
    soon: bool,
}

/// How many are expected.
#[derive(Debug, Default)]
struct Callers {
    all: AtomicUsize,
    soon: AtomicUsize,
}

impl Expected {
    fn one_more(of: &Arc<Callers>) -> Self {
        of.all.fetch_add(1, Ordering::Relaxed);
        of.soon.fetch_add(1, Ordering::Relaxed);
        Self { of: Arc::clone(of), soon: true }
    }

    /// It takes longer than most: nobody should wait for it.
    pub fn not_soon(&mut self) {
        if std::mem::take(&mut self.soon) {
            self.of.soon.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.not_soon();
        self.of.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many batches the writer waits for before it commits, as far as so many are expected.
///
/// It waits until so many are there, or none came for [`GAP`], or [`CAP`] is over. Where none came, the number falls halfway to
/// what there was; now and then a greater one is tried.
#[derive(Debug)]
struct Linger {
    target: usize,
    reached: u32,
}

/// Nobody came for so long: nobody will.
const GAP: Duration = Duration::from_micros(1000);
/// The longest that a batch is kept waiting for others.
const CAP: Duration = Duration::from_millis(3);
/// A greater number is tried after so many groups that reached theirs.
const TRY_EVERY: u32 = 2;
/// More than so many in a group save next to nothing.
const ENOUGH: usize = 64;

impl Default for Linger {
    fn default() -> Self {
        Self { target: 1, reached: 0 }
    }
}

impl Linger {
    fn reached(&mut self) {
        self.reached += 1;
        if self.reached >= TRY_EVERY && self.target < ENOUGH {
            self.reached = 0;
            self.target = (self.target + 1 + self.target / 4).min(ENOUGH);
        }
    }

    fn missed(&mut self, there: usize) {
        self.reached = 0;
        self.target = ((self.target + there) / 2).clamp(1, ENOUGH);
    }
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    expected: Arc<Callers>,
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

    /// Gives the committer to a caller who has one batch alone: where it lies here, nothing waits, and nobody but `own` callers
    /// is expected to bring something. It must be brought [back](Queue::give_back) without waiting for anything.
    pub(crate) fn borrow(&self, own: usize) -> Option<Box<Committer>> {
        if self.expected.all.load(Ordering::Relaxed) > own {
            return None;
        }
        let mut state = self.state.lock();
        if !state.jobs.is_empty() || state.closed || !matches!(state.committer, Lent::Here(_)) {
            return None;
        }
        match std::mem::replace(&mut state.committer, Lent::Out { sent_for: false }) {
            Lent::Here(committer) => Some(committer),
            Lent::Out { .. } | Lent::No => None,
        }
    }

    /// Brings back what was borrowed.
    pub(crate) fn give_back(&self, committer: Box<Committer>) {
        let mut state = self.state.lock();
        state.untidy = committer.is_untidy();
        let sent_for = matches!(state.committer, Lent::Out { sent_for: true });
        let wake = sent_for || state.untidy;
        state.committer = Lent::Here(committer);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// For the writer thread: lends the committer to callers while it waits for a group, up to `patience`, then moves the
    /// group into `group` and gives the committer back.
    pub(crate) fn take(
        &self,
        committer: Option<Box<Committer>>,
        group: &mut Vec<Job>,
        patience: Duration,
    ) -> (Taken, Option<Box<Committer>>) {
        let mut state = self.state.lock();
        state.committer = committer.map_or(Lent::No, Lent::Here);
        let taken = self.wait(&mut state, patience);
        let committer = self.fetch(&mut state);
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

    /// Takes the committer back, from a caller if need be.
    fn fetch(&self, state: &mut MutexGuard<'_, State>) -> Option<Box<Committer>> {
        loop {
            match std::mem::take(&mut state.committer) {
                Lent::Here(committer) => return Some(committer),
                Lent::No => return None,
                Lent::Out { .. } => {
                    state.committer = Lent::Out { sent_for: true };
                    self.wake.wait(state);
                }
            }
        }
    }

    /// Waits for more, where more may come.
    fn linger(&self, state: &mut MutexGuard<'_, State>) {
        let end = Instant::now() + CAP;
        loop {
            let there = state.jobs.len();
            let most = (there + self.expected.soon.load(Ordering::Relaxed)) * 3 / 4;
            let wanted = state.linger.target.min(most.max(1));
            if there >= wanted || state.closed {
                // As many as were wanted, and not for lack of others: perhaps more would have come.
                if wanted == state.linger.target {
                    state.linger.reached();
                }
                return;
            }
            let until = (Instant::now() + GAP).min(end);
            state.wake_at = wanted;
            let late = self.wake.wait_until(state, until).timed_out();
            state.wake_at = 0;
            if !late {
                continue;
            }
            if state.jobs.len() == there {
                state.linger.missed(there);
                return;
            }
            if Instant::now() >= end {
                return;
            }
        }
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
    fn the_number_waited_for_grows_by_trial_and_falls_halfway() {
        let mut linger = Linger::default();
        assert_eq!(linger.target, 1, "nobody waits at first");
        (1..TRY_EVERY).for_each(|_| linger.reached());
        assert_eq!(linger.target, 1);
        linger.reached();
        assert_eq!(linger.target, 2, "now one more is tried");
        linger.missed(1);
        assert_eq!(linger.target, 1, "where none came, none is waited for again for a while");
        linger.target = 9;
        linger.missed(3);
        assert_eq!(linger.target, 6);
        (0..TRY_EVERY * 100).for_each(|_| linger.reached());
        assert_eq!(linger.target, ENOUGH);
    }

    #[test]
    fn nobody_waits_for_those_who_take_long() {
        let queue = Queue::default();
        let target_after = |queue: &Queue| {
            queue.state.lock().linger.target = 8;
            drop(queue.push(Batch::new()));
            assert_eq!(queue.take(None, &mut Vec::new(), Duration::ZERO).0, Taken::Jobs);
            queue.state.lock().linger.target
        };
        let mut callers: Vec<_> = (0..3).map(|_| queue.expect()).collect();
        assert_eq!(target_after(&queue), 4, "it waited, and nobody came");
        callers.iter_mut().for_each(Expected::not_soon);
        assert_eq!(target_after(&queue), 8, "it did not wait");
        drop(callers);
        let left = (queue.expected.all.load(Ordering::Relaxed), queue.expected.soon.load(Ordering::Relaxed));
        assert_eq!(left, (0, 0));
    }

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
            group.drain(..).for_each(|job| job.answer(Ok(Committed { last_event: 1, removed: 0 })));
        }
        assert!(must.wait().is_ok() && waiting.into_iter().all(|commit| commit.wait().is_ok()));
        queue.close();
        assert_eq!(queue.take(None, &mut group, Duration::ZERO).0, Taken::Closed);
        assert_eq!(queue.push(Batch::new().until_committed()).wait(), Err(WriteError::Closed));
    }
}
