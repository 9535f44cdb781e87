//! Machine code for modules: made by a compiler process, kept by what it was made of.
//!
//! To the supervisor the code is opaque bytes in a sealed memfd. Concurrent requests for one module
//! compile it once. It is kept in memory, and on disk for the next start. Both are keyed by tenant: code
//! that one tenant's module made a compiler write is never loaded for another.

mod disk;
mod heard;
mod job;
mod prepare;
mod turns;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use void_ipc::message::{Budget, Item, Refused};

pub(crate) use disk::{Build, Files};
pub(crate) use heard::Description;
pub(crate) use job::Limits;
pub(crate) use prepare::Preparations;
pub(crate) use turns::Turns;

use job::Work;

use crate::metrics::{CodeSource, Metrics};
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
    description: Description,
    /// Size of the machine code, bytes.
    pub(crate) size: u64,
    /// Which engine it is for, see [`void_ipc::message::FromCompiler::Ready`].
    engine: u64,
    memfd: OwnedFd,
}

impl std::ops::Deref for Code {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.description
    }
}

impl Code {
    /// The sealed machine code.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Which engine it is for.
    pub(crate) fn engine(&self) -> u64 {
        self.engine
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
    /// The compiler was still at it after this time, though it had CPU time left: the machine is busy, or it hangs. Not the
    /// module's fault for sure, so the next run tries again.
    #[error("the compiler was not done after {} s and was ended: the machine may be busy, try again later", .0.as_secs())]
    Late(Duration),
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
type Cell = Arc<OnceCell<Result<Arc<Code>, CompileError>>>;

#[derive(Debug)]
struct Entry {
    cell: Cell,
    last_used: Instant,
}

/// The cache, and the way to compilers.
#[derive(Debug)]
pub(crate) struct Compiler {
    spawner: Arc<Spawner>,
    metrics: Metrics,
    allow_weaker: bool,
    // Compilations at once: each keeps a processor busy.
    jobs: Arc<Turns>,
    // Those among them that are of large modules.
    large: Arc<Turns>,
    // Descriptions at once. They are short, and no upload waits for a compilation.
    looks: Arc<Turns>,
    // Reads from disk at once: one thread does them, and some are long.
    reads: Arc<Turns>,
    cache: Mutex<HashMap<Key, Entry>>,
    files: OnceLock<Files>,
    begun: Instant,
}

impl Compiler {
    /// Nothing compiled yet. At most `at_once` compilers run at a time, and one more that prepares.
    pub(crate) fn new(
        spawner: Arc<Spawner>,
        metrics: Metrics,
        at_once: usize,
        allow_weaker: bool,
    ) -> Compiler {
        let turns = |places: usize| Turns::new(places, places);
        Compiler {
            spawner,
            metrics,
            allow_weaker,
            jobs: turns(at_once),
            large: turns((at_once / 2).max(1)),
            looks: turns(at_once),
            reads: turns(1),
            cache: Mutex::default(),
            files: OnceLock::new(),
            begun: Instant::now(),
        }
    }

    /// From now on code is also kept on disk, and looked for there. The first folder counts.
    pub(crate) fn keep_on_disk(&self, files: Files) {
        let _ = self.files.set(files);
    }

    /// The code of the module `wasm`, whose digest is `sha256`, for `tenant`: from memory, from disk, or compiled.
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
        let entry = self.entry(&key, Instant::now());
        let mut source = CodeSource::Hit;
        let find_or_make = async {
            if let Some(code) = self.on_disk(&key).await {
                source = CodeSource::Disk;
                return Ok(code);
            }
            source = CodeSource::Miss;
            self.make(&key, wasm, Work::Compile).await
        };
        let compiled = entry.cell.get_or_init(|| find_or_make).await.clone();
        self.metrics.code_cache(source);
        match &compiled {
            Ok(_) | Err(CompileError::Invalid(_) | CompileError::Budget(_)) => {
                if source != CodeSource::Hit {
                    self.shrink();
                }
            }
            Err(_) => entry.forget(),
        }
        compiled
    }

    /// Sees to it that there is code for the module, without hurry: nobody waits for it yet. One at a time.
    pub(crate) async fn prepare(&self, tenant: &Arc<str>, sha256: [u8; 32], wasm: &Bytes) {
        let key = (Arc::clone(tenant), sha256);
        let on_disk = match self.files.get() {
            Some(files) => files.has(tenant, &sha256).await,
            None => false,
        };
        if on_disk || self.cache.lock().contains_key(&key) {
            return;
        }
        // It is the first to go when there is too much: what runs use stays.
        let entry = self.entry(&key, self.begun);
        let prepared = entry.cell.get_or_init(|| self.make(&key, wasm, Work::Prepare)).await;
        match prepared {
            Ok(_) | Err(CompileError::Invalid(_)) => self.shrink(),
            // It may have been the machine that was slow.
            Err(_) => entry.forget(),
        }
    }

    /// What the module is, without compiling it. Where its digest is given, what is known of it is not found out again.
    ///
    /// # Errors
    /// As [`Compiler::code`].
    pub(crate) async fn describe(
        &self,
        tenant: &Arc<str>,
        sha256: Option<[u8; 32]>,
        wasm: &Bytes,
    ) -> Result<Arc<Code>, CompileError> {
        if let Some(sha256) = sha256 {
            let key = (Arc::clone(tenant), sha256);
            let known = self.cache.lock().get(&key).and_then(|entry| entry.cell.get().cloned());
            if let Some(Ok(code)) = known {
                return Ok(code);
            }
        }
        self.compile(tenant, wasm, Work::Describe).await
    }

    /// The place of a module's code in the cache, used at `used`.
    fn entry(&self, key: &Key, used: Instant) -> Held<'_> {
        let mut cache = self.cache.lock();
        let entry =
            cache.entry(key.clone()).or_insert_with(|| Entry { cell: Arc::default(), last_used: used });
        entry.last_used = entry.last_used.max(used);
        Held { compiler: self, key: key.clone(), cell: Arc::clone(&entry.cell) }
    }

    async fn on_disk(&self, (tenant, sha256): &Key) -> Option<Arc<Code>> {
        let files = self.files.get()?;
        let _turn = self.reads.take(tenant).await;
        files.read(tenant, sha256).await.map(Arc::new)
    }

    async fn make(&self, key: &Key, wasm: &Bytes, work: Work) -> Result<Arc<Code>, CompileError> {
        let (tenant, sha256) = key;
        let code = self.compile(tenant, wasm, work).await?;
        if let Some(files) = self.files.get() {
            files.keep(tenant, sha256, &code);
        }
        Ok(code)
    }

    async fn compile(&self, tenant: &Arc<str>, wasm: &Bytes, work: Work) -> Result<Arc<Code>, CompileError> {
        let job = self.job(tenant, wasm, work).await;
        // Where nothing had begun, and where only a look was lost, one more try is worth it. A module that its compiler
        // died of is not compiled again for the same run: it may be why.
        let again = match &job {
            Err(CompileError::Unavailable(_)) => true,
            Err(CompileError::Crashed(_)) => work == Work::Describe,
            _ => false,
        };
        if !again {
            return job;
        }
        tokio::time::sleep(SECOND_TRY).await;
        self.job(tenant, wasm, work).await
    }

    async fn job(&self, tenant: &Arc<str>, wasm: &Bytes, work: Work) -> Result<Arc<Code>, CompileError> {
        let turns: &[&Arc<Turns>] = match work {
            Work::Describe => &[&self.looks],
            Work::Compile if wasm.len() > LARGE => &[&self.large, &self.jobs],
            Work::Compile => &[&self.jobs],
            // Whoever prepares does one thing at a time, and takes no turn from a run.
            Work::Prepare => &[],
        };
        let mut held = Vec::with_capacity(turns.len());
        for turns in turns {
            held.push(turns.take(tenant).await);
        }
        let begin = Instant::now();
        let limits = Limits::for_module(wasm.len() as u64);
        let job = job::run(&self.spawner, &self.metrics, wasm, work, limits, self.allow_weaker).await;
        if work != Work::Describe {
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
            Some(Ok(code)) => code.size + code.weight() + 4096,
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

/// A place in the cache that somebody waits for. One that stays empty goes with the last of them.
struct Held<'a> {
    compiler: &'a Compiler,
    key: Key,
    cell: Cell,
}

impl Held<'_> {
    /// What came is not to be remembered.
    fn forget(&self) {
        self.forget_if(|_| true);
    }

    fn forget_if(&self, so: impl FnOnce(&Cell) -> bool) {
        let mut cache = self.compiler.cache.lock();
        if cache.get(&self.key).is_some_and(|entry| Arc::ptr_eq(&entry.cell, &self.cell)) && so(&self.cell) {
            cache.remove(&self.key);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.cell.initialized() {
            // The cache's own and this one: nobody else is waiting, and nobody can come while the cache is locked.
            self.forget_if(|cell| !cell.initialized() && Arc::strong_count(cell) <= 2);
        }
    }
}
