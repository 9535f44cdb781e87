//! Where the committer is: one exists, and who holds it writes.

use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;

use super::{Job, Queue, State};
use crate::committer::Committer;

/// Where the committer is.
#[derive(Debug, Default)]
pub(super) enum Lent {
    /// With the writer thread, or nowhere: the storage could not be opened.
    #[default]
    No,
    /// Here.
    Here(Box<Committer>),
    /// With a caller, who brings it back within a commit's time.
    Out,
}

/// The committer in the hands of a caller; it goes back when this is dropped.
pub(crate) struct Borrowed<'a> {
    queue: &'a Queue,
    committer: Option<Box<Committer>>,
}

impl Borrowed<'_> {
    /// See [`Committer::commit_at_once`].
    pub(crate) fn commit_at_once(&mut self, job: Job) -> Result<(), Vec<Job>> {
        match &mut self.committer {
            Some(committer) => committer.commit_at_once(job),
            None => Err(vec![job]),
        }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // After a panic nobody knows in what state it is: the writer thread then opens the database anew.
        let sound = !std::thread::panicking();
        self.queue.give_back(self.committer.take().filter(|_| sound));
    }
}

impl Queue {
    /// Lends the committer to a caller who has one batch alone: where it lies here, nothing waits, and nobody but `own` callers
    /// is expected to bring something soon. The caller must not wait for anything meanwhile.
    pub(crate) fn borrow(&self, own: usize) -> Option<Borrowed<'_>> {
        if self.expected.load(Ordering::Relaxed) > own {
            return None;
        }
        let mut state = self.state.lock();
        if !state.jobs.is_empty() || state.closed || state.wanted || !matches!(state.committer, Lent::Here(_))
        {
            return None;
        }
        match std::mem::replace(&mut state.committer, Lent::Out) {
            Lent::Here(committer) => Some(Borrowed { queue: self, committer: Some(committer) }),
            Lent::Out | Lent::No => None,
        }
    }

    /// `None`: it was lost.
    fn give_back(&self, committer: Option<Box<Committer>>) {
        let mut state = self.state.lock();
        state.untidy = committer.as_ref().is_none_or(|committer| committer.is_untidy());
        let wake = state.wanted || state.untidy;
        state.committer = committer.map_or(Lent::No, Lent::Here);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Takes the committer back, from a caller if need be.
    pub(super) fn fetch(&self, state: &mut MutexGuard<'_, State>) -> Option<Box<Committer>> {
        loop {
            state.wanted = matches!(state.committer, Lent::Out);
            if !state.wanted {
                return match std::mem::take(&mut state.committer) {
                    Lent::Here(committer) => Some(committer),
                    Lent::Out | Lent::No => None,
                };
            }
            self.wake.wait(state);
        }
    }
}
