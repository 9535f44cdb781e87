//! A lane's zygotes and the run processes that wait in them.
//!
//! ```text
//! lease ─▶ the zygote of (tenant, module, memory limit), started where there is none
//!       ─▶ a spare run process, or a fork on demand
//! ```
//! Owned by one lane and used on its thread alone. The zygotes used least go first.

mod process;
mod zygote;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use void_ipc::channel::ReceiveBuffer;
use void_ipc::message::{Refused, Unloadable};

pub(crate) use process::Exit;
pub(crate) use zygote::Lease;
use zygote::Zygote;

use crate::compile::Code;
use crate::metrics::Metrics;
use crate::spawner::Spawner;

thread_local! {
    /// Room for one frame each way: a lane handles one packet at a time.
    static BUFFERS: RefCell<(ReceiveBuffer, Vec<u8>)> = RefCell::default();
}

/// Zygotes that one lane keeps.
const ZYGOTES: usize = 48;

/// Which zygote a run needs. Two tenants never share one, and the memory cap is fixed at its birth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Whose runs.
    pub(crate) tenant: Arc<str>,
    /// Which module, by its bytes.
    pub(crate) sha256: [u8; 32],
    /// Linear memory that its runs may have, 64 KiB pages.
    pub(crate) mem_pages_max: u32,
}

/// Why no run process could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The kernel refused a layer of isolation.
    #[error("the layer {} was refused: {}", .0.layer.name(), .0.detail)]
    Refused(Refused),
    /// The module cannot be loaded.
    #[error("the module cannot be loaded")]
    Unloadable(Unloadable),
    /// The zygote or the spawner died before a run process was there.
    #[error("the worker died before the run could begin: {0}")]
    Died(String),
}

/// What every zygote of the process is made with.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    /// Who starts zygotes.
    pub(crate) spawner: Arc<Spawner>,
    /// The module of our own that a zygote warms up with.
    pub(crate) warm_up: Arc<Code>,
    /// Where births and deaths are counted.
    pub(crate) metrics: Metrics,
    /// CPU time after which the kernel ends a zygote or run process whatever happens, seconds.
    pub(crate) cpu_seconds_max: u32,
    /// The lane's processor.
    pub(crate) cpu: Option<u16>,
    /// Go on where the kernel refuses a layer.
    pub(crate) allow_weaker: bool,
}

type Zygotes = RefCell<HashMap<Key, Rc<Zygote>>>;

/// A lane's zygotes.
#[derive(Debug)]
pub(crate) struct Pool {
    nursery: Nursery,
    zygotes: Rc<Zygotes>,
}

impl Pool {
    /// None yet.
    pub(crate) fn new(nursery: Nursery) -> Pool {
        Pool { nursery, zygotes: Rc::default() }
    }

    /// A run process for `key`, which executes `code`.
    pub(crate) async fn lease(&self, key: &Key, code: &Arc<Code>) -> Result<Lease, LeaseError> {
        // A spawner that has just died is back in a moment: one more try is worth it, two are not.
        for last in [false, true] {
            let leased = match self.zygote(key, code) {
                Ok(zygote) => {
                    let leased = zygote.lease().await;
                    if leased.is_err() {
                        self.forget(key, &zygote);
                    }
                    leased
                }
                Err(error) => Err(error),
            };
            match leased {
                Err(LeaseError::Died(_)) if !last => {}
                leased => return leased,
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Err(LeaseError::Died("twice in a row".into()))
    }

    fn zygote(&self, key: &Key, code: &Arc<Code>) -> Result<Rc<Zygote>, LeaseError> {
        let mut zygotes = self.zygotes.borrow_mut();
        if let Some(zygote) = zygotes.get(key).filter(|zygote| zygote.takes_runs()) {
            return Ok(Rc::clone(zygote));
        }
        let among = Rc::downgrade(&self.zygotes);
        let zygote = Zygote::start(&self.nursery, key.mem_pages_max, Arc::clone(code), among)?;
        zygotes.insert(key.clone(), Rc::clone(&zygote));
        if zygotes.len() > ZYGOTES {
            let now = Instant::now();
            let coldest = zygotes
                .iter()
                .filter(|(_, zygote)| zygote.idle())
                .max_by_key(|(_, zygote)| now - zygote.last_used())
                .map(|(key, _)| key.clone());
            // Dropping it closes its socket, and it ends.
            coldest.and_then(|key| zygotes.remove(&key));
        }
        Ok(zygote)
    }

    fn forget(&self, key: &Key, zygote: &Rc<Zygote>) {
        let mut zygotes = self.zygotes.borrow_mut();
        if zygotes.get(key).is_some_and(|current| Rc::ptr_eq(current, zygote)) {
            zygotes.remove(key);
        }
    }
}
