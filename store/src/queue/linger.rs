//! How many batches the writer waits for before it commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::{Queue, State};

/// Somebody who will submit a batch soon, until this is dropped.
#[derive(Debug)]
pub struct Expected {
    of: Arc<AtomicUsize>,
}

impl Expected {
    pub(super) fn one_more(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self { of: Arc::clone(of) }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.of.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many batches the writer waits for before it commits, as far as so many are expected.
///
/// It waits until so many are there, or none came for [`GAP`], or [`CAP`] is over. Where none came, the number falls halfway to
/// what there was; now and then a greater one is tried.
#[derive(Debug)]
pub(super) struct Linger {
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

impl Queue {
    /// Waits for more, where more may come.
    pub(super) fn linger(&self, state: &mut MutexGuard<'_, State>) {
        let end = Instant::now() + CAP;
        loop {
            let there = state.jobs.len();
            let most = (there + self.expected.load(Ordering::Relaxed)) * 3 / 4;
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
}

#[cfg(test)]
mod tests {
    use super::super::Taken;
    use super::*;
    use crate::change::Batch;

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
    fn nobody_waits_for_those_who_are_no_longer_expected() {
        let queue = Queue::default();
        let target_after = |queue: &Queue| {
            queue.state.lock().linger.target = 8;
            drop(queue.push(Batch::new()));
            assert_eq!(queue.take(None, &mut Vec::new(), Duration::ZERO).0, Taken::Jobs);
            queue.state.lock().linger.target
        };
        let callers: Vec<_> = (0..3).map(|_| queue.expect()).collect();
        assert_eq!(target_after(&queue), 4, "it waited, and nobody came");
        drop(callers);
        assert_eq!(target_after(&queue), 8, "it did not wait");
    }
}
