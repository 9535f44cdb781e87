//! The last ten minutes in numbers of all tenants together, for the status page. Bounded, and gone with the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::app::App;
use crate::metrics::{Metrics, Sample};

/// Between two samples.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// Samples kept: ten minutes.
pub(crate) const STEPS: usize = 120;

/// Samples, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    began: Instant,
    samples: Mutex<VecDeque<(Instant, Arc<Sample>)>>,
}

impl History {
    /// Begins with the numbers as they are.
    pub(crate) fn new(metrics: &Metrics) -> History {
        let now = Instant::now();
        History { began: now, samples: Mutex::new(VecDeque::from([(now, Arc::new(metrics.sample()))])) }
    }

    /// How long the service has been running.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn keep(&self, sample: Sample) {
        let mut samples = self.samples.lock();
        if samples.len() > STEPS {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), Arc::new(sample)));
    }

    /// The samples and one more of this moment.
    pub(crate) fn up_to(&self, now: Sample) -> Vec<(Instant, Arc<Sample>)> {
        let mut samples: Vec<_> = self.samples.lock().iter().cloned().collect();
        samples.push((Instant::now(), Arc::new(now)));
        samples
    }
}

/// Samples for as long as the service lives.
pub(crate) async fn keep(app: Arc<App>) {
    loop {
        tokio::time::sleep(STEP).await;
        app.history.keep(app.metrics.sample());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_kept() {
        let metrics = Metrics::new().unwrap();
        let history = History::new(&metrics);
        for _ in 0..3 * STEPS {
            history.keep(metrics.sample());
        }
        assert_eq!(history.up_to(metrics.sample()).len(), STEPS + 2);
    }
}
