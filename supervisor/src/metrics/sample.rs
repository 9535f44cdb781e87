//! The numbers as they are at one moment, for the status page: fields instead of a text that would have to be parsed.

use prometheus::core::Collector;
use void_api::{Mode, Reason, Status};

use super::words::{Cause, Doing, LIMITS, Role};
use super::{RUN_BUCKETS, Series};

/// How runs ended, as the page tells them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Executed to their end.
    pub(crate) finished: u64,
    /// Checked and not executed.
    pub(crate) dry_run: u64,
    /// In error, executed or not.
    pub(crate) error: u64,
    /// By request.
    pub(crate) cancelled: u64,
    /// Accepted during a freeze.
    pub(crate) frozen: u64,
}

impl Ended {
    /// All of them.
    pub(crate) fn all(self) -> u64 {
        self.finished + self.dry_run + self.error + self.cancelled + self.frozen
    }

    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Ended) -> Ended {
        Ended {
            finished: self.finished.saturating_sub(earlier.finished),
            dry_run: self.dry_run.saturating_sub(earlier.dry_run),
            error: self.error.saturating_sub(earlier.error),
            cancelled: self.cancelled.saturating_sub(earlier.cancelled),
            frozen: self.frozen.saturating_sub(earlier.frozen),
        }
    }
}

/// Counts of runs at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// How they ended.
    pub(crate) ended: Ended,
    /// Executed runs by their wall time: for each of [`Sample::BOUNDS`] those that took at most so long, and all.
    pub(crate) up_to: Vec<u64>,
}

impl Sample {
    /// Milliseconds.
    pub(crate) const BOUNDS: &[f64] = RUN_BUCKETS;

    /// For each bound those between the one before and it, and those above all; of the runs since `earlier`.
    pub(crate) fn between(&self, earlier: Option<&Sample>) -> Vec<u64> {
        let before = |index: usize| earlier.and_then(|sample| sample.up_to.get(index)).copied().unwrap_or(0);
        let new: Vec<u64> =
            self.up_to.iter().enumerate().map(|(index, count)| count.saturating_sub(before(index))).collect();
        let first = new.first().copied().into_iter();
        first.chain(new.windows(2).map(|pair| pair[1].saturating_sub(pair[0]))).collect()
    }
}

/// Worker processes of one role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workers {
    /// What they are.
    pub(crate) role: &'static str,
    /// Alive and without work.
    pub(crate) idle: i64,
    /// Alive and at work.
    pub(crate) busy: i64,
    /// Started since the service began.
    pub(crate) starts: u64,
    /// Ended by a signal that nobody here sent.
    pub(crate) crashed: u64,
    /// Ended by their filter.
    pub(crate) seccomp: u64,
}

impl Series {
    /// Runs as they stand now.
    pub(crate) fn sample(&self) -> Sample {
        let count = |status: Status, mode: Mode| self.runs.at(status as usize, mode as usize).get();
        let over_modes =
            |status| [Mode::Live, Mode::Canary, Mode::DryRun].map(|mode| count(status, mode)).iter().sum();
        let ended = Ended {
            finished: count(Status::Finished, Mode::Live) + count(Status::Finished, Mode::Canary),
            dry_run: count(Status::Finished, Mode::DryRun),
            error: over_modes(Status::Error),
            cancelled: over_modes(Status::Cancelled),
            frozen: count(Status::Frozen, Mode::Frozen),
        };
        let mut up_to: Vec<u64> = Vec::with_capacity(RUN_BUCKETS.len() + 1);
        let families = self.run_duration.collect();
        if let Some(metric) = families.first().and_then(|family| family.get_metric().first()) {
            let histogram = metric.get_histogram();
            up_to.extend(histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count()));
            up_to.push(histogram.get_sample_count());
        }
        Sample { ended, up_to }
    }

    /// Runs that ended at each limit.
    pub(crate) fn limits_met(&self) -> impl Iterator<Item = (Reason, u64)> {
        LIMITS.iter().copied().zip(self.violations.iter().map(|counter| counter.get()))
    }

    /// Worker processes, by what they are.
    pub(crate) fn workers(&self) -> impl Iterator<Item = Workers> {
        Role::ALL.iter().map(|role| Workers {
            role: role.as_str(),
            idle: self.worker(*role, Doing::Idle).get(),
            busy: self.worker(*role, Doing::Busy).get(),
            starts: self.starts.get(*role as usize).map_or(0, |counter| counter.get()),
            crashed: self.deaths.at(*role as usize, Cause::Crashed as usize).get(),
            seccomp: self.deaths.at(*role as usize, Cause::Seccomp as usize).get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_sample_counts_what_was_counted() {
        let metrics = Metrics::new().unwrap();
        let before = metrics.sample();
        assert_eq!(before.up_to, vec![0; Sample::BOUNDS.len() + 1]);
        metrics.run_ended(Status::Finished, Mode::Live, Some(Duration::from_micros(70)));
        metrics.run_ended(Status::Finished, Mode::DryRun, None);
        metrics.run_ended(Status::Error, Mode::Canary, Some(Duration::from_secs(60)));
        let now = metrics.sample();
        assert_eq!(
            now.ended.since(before.ended),
            Ended { finished: 1, dry_run: 1, error: 1, ..Ended::default() }
        );
        assert_eq!(now.ended.all(), 3);
        let between = now.between(Some(&before));
        // 0.05 to 0.1 ms, and above 30 s: a dry run takes no time of execution.
        let found: Vec<usize> = (0..between.len()).filter(|index| between[*index] > 0).collect();
        assert_eq!(found, [1, Sample::BOUNDS.len()]);
    }
}
