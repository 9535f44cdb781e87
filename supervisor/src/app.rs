//! What all lanes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::compile::{Compiler, Preparations};
use crate::gateway::Shared;
use crate::history::History;
use crate::metrics::Metrics;
use crate::proof::Layers;
use crate::run_ids::RunIds;
use crate::runs::Runs;
use crate::settings::Live;
use crate::slots::Slots;

/// One for the process.
pub(crate) struct App {
    /// The settings in force.
    pub(crate) settings: Live,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// What was counted lately.
    pub(crate) history: History,
    /// Where modules come from.
    pub(crate) supply: void_module::Supply,
    /// What survives.
    pub(crate) store: void_store::Store,
    /// Names for new runs.
    pub(crate) run_ids: RunIds,
    /// The runs that have not ended.
    pub(crate) runs: Runs,
    /// Who runs next.
    pub(crate) slots: Arc<Slots>,
    /// What the gateways of all runs share.
    pub(crate) gateway: Shared,
    /// Machine code.
    pub(crate) compiler: Compiler,
    /// What is to be compiled ahead.
    pub(crate) preparations: Preparations,
    /// Which layers of isolation stand.
    pub(crate) layers: Layers,
    /// Whether runs are taken.
    pub(crate) state: State,
}

/// Whether runs are taken.
#[derive(Debug, Default)]
pub(crate) struct State {
    ready: AtomicBool,
    draining: watch::Sender<bool>,
}

impl State {
    /// Everything is prepared.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// From now on nothing is accepted.
    pub(crate) fn begin_drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether everything is prepared.
    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether the service is stopping.
    pub(crate) fn draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// For those who must hear of it: connections that are idle, streams that would not end.
    pub(crate) fn drain_begun(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}
