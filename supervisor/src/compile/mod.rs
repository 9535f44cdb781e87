//! Machine code for modules: made by a compiler process, kept by what it was made of.
//!
//! To the supervisor the code is opaque bytes in a sealed memfd. Concurrent requests for one module
//! compile it once. The cache is keyed by tenant: code that one tenant's module made a compiler write
//! is never loaded for another.

mod job;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OnceCell, Semaphore};
use void_ipc::message::{Budget, Extern, Import, Item, ModuleKind, Refused};

pub(crate) use job::Limits;

use crate::metrics::Metrics;
use crate::spawner::Spawner;

/// Machine code that is kept, bytes, all modules together.
const CACHE_BYTES: u64 = 512 << 20;

/// Modules that are kept, refused ones included: the code of each takes a descriptor.
const CACHE_MODULES: usize = 512;

/// A module beyond this size, bytes, is large: it may take long, and small ones do not wait behind it.
const LARGE: usize = 1 << 20;

/// Pause before a second try: a spawner that has died is back by then.
const SECOND_TRY: Duration = Duration::from_millis(200);

/// What a module is, and its code.
#[derive(Debug)]
pub(crate) struct Code {
    /// What it is.
    pub(crate) kind: ModuleKind,
    /// What it exports.
    pub(crate) exports: Vec<Extern>,
    /// What it imports.
    pub(crate) imports: Vec<Import>,
    /// What to call before anything else.
    pub(crate) start_export: Option<String>,
    /// Size of the machine code, bytes.
    pub(crate) size: u64,
    memfd: OwnedFd,
}

impl Code {
    /// The sealed machine code.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// The exported function `name`, where there is one.
    pub(crate) fn function(&self, name: &str) -> Option<&Item> {
        self.exports
            .iter()
            .find(|export| export.name == name && matches!(export.item, Item::Function { .. }))
            .map(|export| &export.item)
    }
}

/// Why there is no code.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CompileError {
    /// The module is at fault.
    #[error("{0}")]
    Invalid(String),
    /// The module needs more than a compiler may use.
    #[error("the compiler ran out of {}", budget_name(*.0))]
    Budget(Budget),
    /// The compiler ended without an answer.
    #[error("the compiler ended without an answer ({0})")]
    Crashed(String),
    /// The kernel refused a layer of isolation.
    #[error("the layer {} was refused: {}", .0.layer.name(), .0.detail)]
    Refused(Refused),
    /// No compiler could be started.
    #[error("no compiler could be started: {0}")]
    Unavailable(String),
}

fn budget_name(budget: Budget) -> &'static str {
    match budget {
        Budget::Cpu => "CPU time",
        Budget::Memory => "memory",
        Budget::Output => "room for the machine code",
    }
}

type Key = (Arc<str>, [u8; 32]);

#[derive(Debug)]
struct Entry {
    cell: Arc<OnceCell<Result<Arc<Code>, CompileError>>>,
    last_used: Instant,
}

/// The cache, and the way to compilers.
#[derive(Debug)]
pub(crate) struct Compiler {
    spawner: Arc<Spawner>,
    metrics: Metrics,
    allow_weaker: bool,
    // Compilations at once: each keeps a processor busy.
    jobs: Semaphore,
    // Those among them that are of large modules.
    large: Semaphore,
    // Descriptions at once. They are short, and no upload waits for a compilation.
    looks: Semaphore,
    cache: Mutex<HashMap<Key, Entry>>,
}

impl Compiler {
    /// Nothing compiled yet. At most `at_once` compilers run at a time.
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        metrics: Metrics,
        at_once: usize,
        allow_weaker: bool,
    ) -> Compiler {
        Compiler {
            spawner,
            metrics,
            allow_weaker,
            jobs: Semaphore::new(at_once),
            large: Semaphore::new((at_once / 2).max(1)),
            looks: Semaphore::new(at_once),
            cache: Mutex::default(),
        }
    }

    /// The code of the module `wasm`, whose digest is `sha256`, for `tenant`.
    ///
    /// # Errors
    /// Why there is none. A module's own faults are remembered; anything else is tried again the next time.
    pub(crate) async fn code(
        &self,
        tenant: &Arc<str>,
        sha256: [u8; 32],
        wasm: &Bytes,
    ) -> Result<Arc<Code>, CompileError> {
        let key = (Arc::clone(tenant), sha256);
        let (cell, hit) = {
            let mut cache = self.cache.lock();
            let hit = cache.contains_key(&key);
            let entry = cache
                .entry(key.clone())
                .or_insert_with(|| Entry { cell: Arc::default(), last_used: Instant::now() });
            entry.last_used = Instant::now();
            (Arc::clone(&entry.cell), hit)
        };
        self.metrics.code_cache(hit);
        let compiled = cell.get_or_init(|| self.compile(wasm, true)).await.clone();
        match &compiled {
            Ok(_) | Err(CompileError::Invalid(_) | CompileError::Budget(_)) => {
                if !hit {
                    self.shrink();
                }
            }
            Err(_) => {
                self.cache.lock().remove(&key);
            }
        }
        compiled
    }

    /// What the module is, without compiling it.
    ///
    /// # Errors
    /// As [`Compiler::code`].
    pub(crate) async fn describe(&self, wasm: &Bytes) -> Result<Arc<Code>, CompileError> {
        self.compile(wasm, false).await
    }

    async fn compile(&self, wasm: &Bytes, compile: bool) -> Result<Arc<Code>, CompileError> {
        let job = self.job(wasm, compile).await;
        // Where nothing had begun, and where only a look was lost, one more try is worth it. A module that its compiler
        // died of is not compiled again for the same run: it may be why.
        let again = match &job {
            Err(CompileError::Unavailable(_)) => true,
            Err(CompileError::Crashed(_)) => !compile,
            _ => false,
        };
        if !again {
            return job;
        }
        tokio::time::sleep(SECOND_TRY).await;
        self.job(wasm, compile).await
    }

    async fn job(&self, wasm: &Bytes, compile: bool) -> Result<Arc<Code>, CompileError> {
        let closed = |error: AcquireError| CompileError::Unavailable(error.to_string());
        let large = compile && wasm.len() > LARGE;
        let _large = if large { Some(self.large.acquire().await.map_err(closed)?) } else { None };
        let turns = if compile { &self.jobs } else { &self.looks };
        let _turn = turns.acquire().await.map_err(closed)?;
        let begin = Instant::now();
        let limits = Limits::for_module(wasm.len() as u64);
        let job = job::run(&self.spawner, &self.metrics, wasm, compile, limits, self.allow_weaker).await;
        if compile {
            self.metrics.compiled(begin.elapsed());
        }
        job.map(Arc::new)
    }

    /// Lets go of what was used least until the rest fits.
    fn shrink(&self) {
        let mut cache = self.cache.lock();
        let size = |entry: &Entry| match entry.cell.get() {
            // A remembered refusal is small, but not nothing.
            Some(Err(_)) | None => 4096,
            Some(Ok(code)) => code.size + 4096,
        };
        let mut total: u64 = cache.values().map(size).sum();
        while total > CACHE_BYTES || cache.len() > CACHE_MODULES {
            let coldest = cache
                .iter()
                .filter(|(_, entry)| entry.cell.initialized())
                .min_by_key(|(_, entry)| entry.last_used)
                .map(|(key, _)| key.clone());
            let Some(entry) = coldest.and_then(|key| cache.remove(&key)) else { return };
            total -= size(&entry);
        }
    }
}
