//! Where a run's time goes, as the service counts it: the counters of `/metrics`, before and after.

use std::collections::BTreeMap;
use std::io::{Error, Result};

use crate::server::Server;

const STAGES: &str = "void_wasm_stage_seconds_total{stage=\"";
const RUNS: &str = "void_wasm_run_duration_ms_count ";

/// One look at the counters, or the difference of two.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stages {
    /// Runs that were executed.
    pub(crate) runs: f64,
    /// Seconds spent in each stage, in the order in which the service prints them.
    pub(crate) seconds: BTreeMap<String, f64>,
}

impl Stages {
    /// Looks.
    ///
    /// # Errors
    /// The service does not answer, or does not count stages.
    pub(crate) fn look(server: &Server) -> Result<Stages> {
        let stages = read(&server.get("/metrics")?);
        if stages.seconds.is_empty() {
            return Err(Error::other(format!("/metrics has no {STAGES}: is void-supervisor of this build?")));
        }
        Ok(stages)
    }

    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Stages) -> Stages {
        let seconds = self.seconds.iter().map(|(stage, seconds)| {
            (stage.clone(), seconds - before.seconds.get(stage).copied().unwrap_or_default())
        });
        Stages { runs: self.runs - before.runs, seconds: seconds.collect() }
    }

    /// Adds another difference.
    pub(crate) fn add(&mut self, other: &Stages) {
        self.runs += other.runs;
        for (stage, seconds) in &other.seconds {
            *self.seconds.entry(stage.clone()).or_default() += seconds;
        }
    }

    /// Microseconds of a stage for each run.
    pub(crate) fn mean(&self, stage: &str) -> f64 {
        self.seconds.get(stage).copied().unwrap_or_default() * 1e6 / self.runs.max(1.0)
    }
}

fn read(text: &str) -> Stages {
    let mut stages = Stages::default();
    for line in text.lines() {
        if let Some((stage, value)) = line.strip_prefix(STAGES).and_then(|rest| rest.split_once("\"} ")) {
            stages.seconds.insert(stage.to_owned(), value.trim().parse().unwrap_or_default());
        } else if let Some(value) = line.strip_prefix(RUNS) {
            stages.runs = value.trim().parse().unwrap_or_default();
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_subtracted() {
        let text = |runs, run| {
            format!(
                "# HELP x\nvoid_wasm_stage_seconds_total{{stage=\"run\"}} {run}\nvoid_wasm_run_duration_ms_count {runs}\n"
            )
        };
        let difference = read(&text(30, "0.5")).since(&read(&text(10, "0.1")));
        assert_eq!(difference.runs, 20.0);
        assert!((difference.mean("run") - 20_000.0).abs() < 1e-6);
        assert_eq!(difference.mean("lease"), 0.0);
    }
}
