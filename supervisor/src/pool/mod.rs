//! A lane's zygotes and the run processes that wait in them.
//!
//! ```text
//! lease ─▶ the zygote of (tenant, module, memory limit), started where there is none
//!       ─▶ a spare run process, or a fork on demand
//! ```
//! Owned by one lane and used on its thread alone. The zygotes used least go first.

mod lease;
mod process;
mod zygote;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use void_ipc::channel::ReceiveBuffer;
use void_ipc::message::{Layer, Refused, Unloadable};

pub(crate) use lease::Lease;
pub(crate) use process::Exit;
use zygote::Zygote;

use crate::compile::Code;
use crate::metrics::Metrics;
use crate::spawner::Spawner;

thread_local! {
    /// Room for one frame each way: a lane handles one packet at a time.
    static BUFFERS: RefCell<(ReceiveBuffer, Vec<u8>)> = RefCell::default();
}

/// Zygotes that one lane keeps at most, and at least, whatever memory there is.
const ZYGOTES: std::ops::RangeInclusive<usize> = 4..=48;
/// What a zygote takes that it shares with nobody, bytes: its code and constants on huge pages, its tables, its heap.
const ZYGOTE_BYTES: u64 = 8 << 20;

/// Zygotes that each of `lanes` may keep: all of them together take an eighth of the machine's memory.
pub(crate) fn zygotes_max(lanes: usize) -> usize {
    let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    let all = usize::try_from(memory / 8 / ZYGOTE_BYTES).unwrap_or(usize::MAX);
    (all / lanes.max(1)).clamp(*ZYGOTES.start(), *ZYGOTES.end())
}

/// Which zygote a run needs. Two tenants never share one, and the kernel's caps are fixed at its birth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Whose runs.
    pub(crate) tenant: Arc<str>,
    /// Which module, by its bytes.
    pub(crate) sha256: [u8; 32],
    /// Linear memory that its runs may have, 64 KiB pages.
    pub(crate) mem_pages_max: u32,
    /// CPU time after which the kernel ends a run process, or the zygote, whatever happens, seconds.
    pub(crate) cpu_seconds_max: u32,
}

/// CPU time behind the run's own budget, which the supervisor enforces: see [`Key::cpu_seconds_max`]. Rounded up to a power of two, so
/// that budgets which differ by a little share their zygotes.
pub(crate) fn cpu_seconds_max(budget_ms: u64) -> u32 {
    const BEHIND_SECONDS: u64 = 60;
    let seconds = (BEHIND_SECONDS + budget_ms.div_ceil(1000)).next_power_of_two();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Why no run process could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The kernel refused a layer of isolation.
    #[error("the layer {} was refused: {}", .0.layer.name(), .0.detail)]
    Refused(Refused),
    /// The module cannot be loaded.
    #[error("the module cannot be loaded: {}", detail(.0))]
    Unloadable(Unloadable),
    /// The zygote or the spawner died before a run process was there.
    #[error("the worker died before the run could begin: {0}")]
    Died(String),
}

fn detail(why: &Unloadable) -> &str {
    match why {
        Unloadable::Memory(detail)
        | Unloadable::Trap(detail)
        | Unloadable::Import(detail)
        | Unloadable::Engine(detail) => detail,
    }
}

/// What every zygote of the process is made with.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    /// Who starts zygotes.
    pub(crate) spawner: Arc<Spawner>,
    /// The module of our own that a zygote warms up with.
    pub(crate) warm_up: Arc<Code>,
    /// The one for zygotes of modules that use WASI.
    pub(crate) warm_up_wasi: Arc<Code>,
    /// Where births and deaths are counted.
    pub(crate) metrics: Metrics,
    /// The lane's processor.
    pub(crate) cpu: Option<u16>,
    /// Zygotes that a lane keeps: see [`zygotes_max`].
    pub(crate) zygotes_max: usize,
    /// Go on where the kernel refuses a layer.
    pub(crate) allow_weaker: bool,
    /// The layers that were missing at the start, once that is known: a zygote that misses another does not serve.
    pub(crate) proven: Option<Arc<[Layer]>>,
    /// A run process serves one run after the other, where its module lends itself to it.
    pub(crate) reuse: bool,
}

type Zygotes = RefCell<HashMap<Key, Rc<Zygote>>>;

/// The processes that are leased.
type InUse = RefCell<Vec<Rc<process::RunProcess>>>;

/// A lane's zygotes.
#[derive(Debug)]
pub(crate) struct Pool {
    nursery: Nursery,
    zygotes: Rc<Zygotes>,
    in_use: Rc<InUse>,
}

impl Pool {
    /// None yet.
    pub(crate) fn new(nursery: Nursery) -> Pool {
        Pool { nursery, zygotes: Rc::default(), in_use: Rc::default() }
    }

    /// A run process for `key`, which executes `code`.
    pub(crate) async fn lease(&self, key: &Key, code: &Arc<Code>) -> Result<Lease, LeaseError> {
        // A spawner that has just died is back in a moment: one more try is worth it, two are not.
        for last in [false, true] {
            let leased = match self.zygote(key, code) {
                Ok(zygote) => {
                    let leased = zygote.lease(&self.in_use).await;
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
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(LeaseError::Died("twice in a row".into()))
    }

    /// Waits until every process that was sent its order has read it, which means that its guest runs. One that has not
    /// after `patience` is killed: it never will. For a freeze, when no further order can be sent.
    pub(crate) async fn settle(&self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(1);
        let until = Instant::now() + patience;
        let ordered: Vec<_> =
            self.in_use.borrow().iter().filter(|process| process.will_begin()).map(Rc::clone).collect();
        for process in ordered {
            // What is left of a guest's input also lies there: one that uses CPU time meanwhile runs.
            let before = process.cpu_time();
            while process.will_begin() && process.cpu_time() == before {
                if Instant::now() >= until {
                    tracing::warn!("a run process had not begun when execution was held, and is killed");
                    // One that does not even die will not run either.
                    let _ = tokio::time::timeout(patience, process.kill_and_wait()).await;
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    fn zygote(&self, key: &Key, code: &Arc<Code>) -> Result<Rc<Zygote>, LeaseError> {
        let mut zygotes = self.zygotes.borrow_mut();
        if let Some(zygote) = zygotes.get(key).filter(|zygote| zygote.takes_runs()) {
            return Ok(Rc::clone(zygote));
        }
        let among = Rc::downgrade(&self.zygotes);
        let zygote = Zygote::start(&self.nursery, key, Arc::clone(code), among)?;
        zygotes.insert(key.clone(), Rc::clone(&zygote));
        if zygotes.len() > self.nursery.zygotes_max {
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
