//! Where the time of a run goes: seconds spent in each stage, all runs together. Divided by the runs, a mean.
//!
//! A sum and no histogram: it must cost next to nothing, and the way of a run has no place where it branches much.

use std::cell::Cell;
use std::time::Instant;

use prometheus::{Counter, CounterVec, Error, Opts, Registry};

use super::families::known;
use super::words;

words::words! {
    /// A part of a run's way, in their order. Each begins where the one before ends.
    Stage {
        /// From the parsed request until the run's own task goes on.
        Admit = "admit",
        /// The module's bytes, its machine code, entry and arguments.
        Prepare = "prepare",
        /// A place among the runs at once, and a run process.
        Lease = "lease",
        /// The request on its way, and the store knowing of it where it must.
        Send = "send",
        /// Until the process has answered, or was ended.
        Run = "run",
        /// The end concluded, stored where it must be, and published.
        Record = "record",
        /// Others' turn on this lane, the one that writes the answer among them.
        Answer = "answer",
        /// The process let go of, and the next one forked ahead.
        Reap = "reap",
    }
}

/// The sums.
pub(super) struct Stages(Vec<Counter>);

impl Stages {
    pub(super) fn new(r: &Registry) -> Result<Stages, Error> {
        let family = known(
            r,
            CounterVec::new(
                Opts::new("void_wasm_stage_seconds_total", "Time that runs spent in each stage, in seconds."),
                &["stage"],
            )?,
        )?;
        Ok(Stages(Stage::ALL.iter().map(|stage| family.with_label_values(&[stage.as_str()])).collect()))
    }
}

/// One run's way through the stages.
#[derive(Debug)]
pub(crate) struct Laps(Cell<Instant>);

impl Laps {
    /// The first stage begins.
    pub(crate) fn begin() -> Laps {
        Laps(Cell::new(Instant::now()))
    }

    /// That stage ends, and the next one begins.
    pub(crate) fn end(&self, metrics: &super::Metrics, stage: Stage) {
        let now = Instant::now();
        let took = now - self.0.replace(now);
        if let Some(sum) = metrics.stages.0.get(stage as usize) {
            sum.inc_by(took.as_secs_f64());
        }
    }
}
