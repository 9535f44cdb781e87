//! From the first line to readiness, and from the first signal to the end.
//!
//! ```text
//! settings ─ store ─ sockets ─ spawner ─ warm-up code ─ proof ─ lanes ─▶ ready
//! SIGHUP ─▶ reload        SIGTERM ─▶ stop accepting, let runs finish ─▶ exit 0; a second one ─▶ exit at once
//! ```
//! The main thread keeps the spawner alive; everything else happens on other threads.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use void_module::{Supply, SupplyConfig};
use void_policy::settings::{Durability, Isolation, SettingError, Settings};
use void_store::{Recovery, Store, StoreConfig};

use crate::app::{App, State};
use crate::compile::{Build, Code, CompileError, Compiler, Files, Preparations};
use crate::history::{self, History};
use crate::lane::Lanes;
use crate::listen::{self, ListenError, Listener};
use crate::metrics::{self, Metrics};
use crate::pool::{Nursery, zygotes_max};
use crate::proof::{self, ProofError};
use crate::run_ids::RunIds;
use crate::runs::Runs;
use crate::settings::Live;
use crate::slots::Slots;
use crate::spawner::Spawner;
use crate::{gateway, notify, readiness, recover};

/// The service's own module, in `assets/warm_up.wat` as text.
const WARM_UP: &[u8] = include_bytes!("../assets/warm_up.wasm");

/// The same for zygotes of modules that use WASI.
const WARM_UP_WASI: &[u8] = include_bytes!("../assets/warm_up_wasi.wasm");

/// How long the store may take to put its files in order at the end.
const TO_CLOSE: Duration = Duration::from_secs(10);

/// Pause after the kernel could not give us a connection (out of descriptors), so that the next try is worth it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A setting is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<SettingError>),
    /// The state cannot be opened.
    #[error(transparent)]
    Store(#[from] void_store::StoreError),
    /// Modules cannot be supplied.
    #[error(transparent)]
    Supply(#[from] void_module::SupplyError),
    /// There is nothing to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A layer of isolation does not stand.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The worker programs are not where they must be.
    #[error(
        "{0} is missing: void-sandbox-worker and void-sandbox-compiler must lie beside void-supervisor (cargo xtask build --release)"
    )]
    Missing(String),
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(String),
    /// The kernel refused something.
    #[error("{0}: {1}")]
    Kernel(&'static str, io::Error),
}

impl StartError {
    /// The exit code, after sysexits.h.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // An address without tokens is a mistake of whoever set it, and no try gets better by being repeated.
            StartError::Settings(_) | StartError::Listen(ListenError::Open { .. }) => 78,
            StartError::Store(_) | StartError::Supply(_) => 73,
            StartError::Missing(_) | StartError::Proof(_) => 69,
            StartError::Listen(_) | StartError::Metrics(_) | StartError::Kernel(..) => 71,
        }
    }
}

/// Starts the service. Returns only when it cannot.
pub(crate) fn start() -> Result<Infallible, StartError> {
    let live = Live::load().map_err(StartError::Settings)?;
    let snapshot = live.now();
    let settings = &snapshot.settings;
    // A worker of the same user must not be able to look into this process.
    void_seccomp::process::set_dumpable(false)
        .map_err(|error| StartError::Kernel("prctl(PR_SET_DUMPABLE)", error))?;
    void_seccomp::limits::raise_descriptors()
        .map_err(|error| StartError::Kernel("setrlimit(RLIMIT_NOFILE)", error))?;
    let metrics = Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?;
    let worker = worker_program()?;
    let programs = hash_programs(&worker)?;
    let (store, recovery) = Store::open(&store_config(settings))?;
    let supply = Supply::new(supply_config(settings))?;
    let listeners = listen::bind(settings)?;
    if listeners.iter().any(|listener| !listener.is_local()) {
        live.reached_from_outside();
    }
    let spawner = Spawner::new(&worker, settings.work.allow_weaker_isolation);
    let child =
        spawner.start().map_err(|error| StartError::Kernel("the spawner cannot be started", error))?;
    metrics.worker_started(metrics::Role::Spawner);
    let parts = Parts {
        live,
        metrics: metrics.clone(),
        store,
        recovery,
        supply,
        listeners,
        spawner: Arc::clone(&spawner),
        programs,
    };
    thread::Builder::new()
        .name("control".into())
        .spawn(move || control(parts))
        .map_err(|error| StartError::Kernel("a thread cannot be started", error))?;
    spawner.keep(child, &metrics)
}

/// What the main thread hands over.
struct Parts {
    live: Live,
    metrics: Metrics,
    store: Store,
    recovery: Recovery,
    supply: Supply,
    listeners: Vec<Listener>,
    spawner: Arc<Spawner>,
    /// The digest of the programs that make and load machine code, once it is known.
    programs: thread::JoinHandle<io::Result<[u8; 32]>>,
}

fn control(parts: Parts) {
    let code = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match LocalSet::new().block_on(&runtime, serve(parts)) {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "void-supervisor does not start");
                i32::from(error.exit_code())
            }
        },
        Err(error) => {
            tracing::error!(%error, "void-supervisor has no event loop");
            71
        }
    };
    // The spawner and all workers end with this process.
    std::process::exit(code);
}

/// The code of a module of our own. Its `number` stands for its digest.
async fn own_module(compiler: &Compiler, number: u8, wasm: &'static [u8]) -> Result<Arc<Code>, ProofError> {
    let compiled = compiler.code(&Arc::from("void"), [number; 32], &bytes::Bytes::from_static(wasm)).await;
    compiled.map_err(|error| match error {
        CompileError::Refused(refused) => ProofError::Layer(refused),
        other => ProofError::Probe(other.to_string()),
    })
}

async fn serve(parts: Parts) -> Result<(), StartError> {
    let Parts { live, metrics, store, recovery, supply, listeners, spawner, programs } = parts;
    let snapshot = live.now();
    let settings = &snapshot.settings;
    let allow_weaker = settings.work.allow_weaker_isolation;
    let processors = void_seccomp::process::processors()
        .map_err(|error| StartError::Kernel("sched_getaffinity", error))?;
    let compiler = Compiler::new(Arc::clone(&spawner), metrics.clone(), processors.len(), allow_weaker);
    let (warm_up, warm_up_wasi) =
        tokio::try_join!(own_module(&compiler, 0, WARM_UP), own_module(&compiler, 1, WARM_UP_WASI))?;
    keep_code(&compiler, settings, warm_up.engine(), programs, &metrics);
    let mut nursery = Nursery {
        spawner,
        warm_up: Arc::clone(&warm_up),
        warm_up_wasi,
        metrics: metrics.clone(),
        cpu: None,
        zygotes_max: zygotes_max(processors.len()),
        allow_weaker,
        proven: None,
        reuse: settings.work.isolation == Isolation::Module,
    };
    let layers = proof::prove(&nursery, &warm_up).await?;
    nursery.proven = Some(layers.missing().iter().map(|refused| refused.layer).collect());
    for refused in layers.missing() {
        tracing::warn!(layer = refused.layer.name(), detail = %refused.detail, "isolation is weaker than it should be");
    }
    tracing::info!(layers = layers.names().join(","), "isolation proven in a run process");
    let slots = Slots::new(settings.work.workers as usize, settings.work.queue_max as usize);
    slots.hold(held(settings));
    let app = Arc::new(App {
        settings: live,
        history: History::new(&metrics),
        metrics,
        supply,
        run_ids: RunIds::after(store.greatest_id()),
        store,
        runs: Runs::new(),
        slots,
        gateway: gateway::Shared::start()
            .map_err(|error| StartError::Kernel("the threads that fetch cannot be started", error))?,
        compiler,
        preparations: Preparations::default(),
        layers,
        state: State::default(),
    });
    let lanes = Lanes::start(&app, &nursery, &processors)
        .map_err(|error| StartError::Kernel("a lane cannot be started", error))?;
    let (pending, interrupted) = (recovery.pending.len(), recovery.interrupted.len());
    lanes.resume(recovery.pending.into_iter().filter_map(|pending| recover::read(&app.store, pending)));
    if pending + interrupted > 0 {
        tracing::info!(pending, interrupted, "runs of the last process taken up");
    }
    live_until_the_end(&app, lanes, listeners).await
}

async fn live_until_the_end(
    app: &Arc<App>,
    lanes: Lanes,
    listeners: Vec<Listener>,
) -> Result<(), StartError> {
    let signals = |kind, name| signal(kind).map_err(|error| StartError::Kernel(name, error));
    let mut reload = signals(SignalKind::hangup(), "SIGHUP")?;
    let mut stop = signals(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = signals(SignalKind::interrupt(), "SIGINT")?;
    let lanes = std::rc::Rc::new(lanes);
    let mut accepting = Vec::new();
    for listener in listeners {
        tracing::info!(address = listener.address(), "listening");
        let listener = readiness::watch(Watched(listener))
            .map_err(|error| StartError::Kernel("a socket cannot be watched", error))?;
        accepting.push(tokio::task::spawn_local(accept(listener, std::rc::Rc::clone(&lanes))));
    }
    app.state.set_ready();
    notify::ready("takes runs");
    tokio::task::spawn_local(watchdog());
    tokio::task::spawn_local(prepare(Arc::clone(app)));
    tokio::task::spawn_local(history::keep(Arc::clone(app)));
    loop {
        tokio::select! {
            Some(()) = reload.recv() => {
                notify::reloading();
                reload_settings(app, &lanes).await;
                notify::ready("takes runs");
            }
            Some(()) = stop.recv() => break,
            Some(()) = interrupt.recv() => break,
        }
    }
    notify::stopping();
    app.state.begin_drain();
    tracing::info!(runs = app.runs.len(), "draining");
    for task in accepting {
        // With its task the socket is closed.
        task.abort();
    }
    tokio::select! {
        () = drained(app) => {}
        Some(()) = stop.recv() => return end_at_once(app),
        Some(()) = interrupt.recv() => return end_at_once(app),
    }
    app.store.close();
    tokio::select! {
        () = written(app) => tracing::info!("drained"),
        Some(()) = stop.recv() => return end_at_once(app),
        Some(()) = interrupt.recv() => return end_at_once(app),
    }
    Ok(())
}

fn end_at_once(app: &App) -> Result<(), StartError> {
    tracing::warn!("a second signal: ending at once");
    app.store.close();
    Ok(())
}

/// Waits until the store has written what waits and put its files in order, as long as that takes a sane time: what
/// was told to anybody is safe before.
async fn written(app: &App) {
    let closed = async {
        while !app.store.is_closed() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(TO_CLOSE, closed).await.is_err() {
        tracing::warn!("the store takes long to close; the next start reads its log of writes");
    }
}

/// Waits until no run is under way. What waits while execution is held stays in the store for the next start.
async fn drained(app: &App) {
    loop {
        let snapshot = app.settings.now();
        let waiting = if held(&snapshot.settings) { app.slots.queued() } else { 0 };
        if app.runs.len() <= waiting {
            // Answers on their way to their clients leave within a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn reload_settings(app: &Arc<App>, lanes: &Lanes) {
    let apply = async |settings: &Settings| {
        app.slots.let_wait(settings.work.queue_max as usize);
        app.slots.hold(held(settings));
        if held(settings) {
            lanes.settle().await;
        }
    };
    // What was refused is logged, and there is nobody else to tell.
    let _ = app.settings.reload(&app.metrics, apply).await;
}

/// Whether nothing may begin.
fn held(settings: &Settings) -> bool {
    settings.switches.freeze || !settings.switches.enabled
}

/// A listening socket as the event loop wants it.
struct Watched(Listener);

impl std::os::fd::AsRawFd for Watched {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(&self.0).as_raw_fd()
    }
}

async fn accept(listener: AsyncFd<Watched>, lanes: std::rc::Rc<Lanes>) {
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        match ready.try_io(|listener| listener.get_ref().0.accept()) {
            Ok(Ok((stream, peer))) => lanes.serve(stream, peer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Err(_would_block) => {}
        }
    }
}

async fn watchdog() {
    let Some(interval) = notify::watchdog_interval() else { return };
    loop {
        notify::watchdog();
        tokio::time::sleep(interval).await;
    }
}

fn worker_program() -> Result<PathBuf, StartError> {
    let here = std::env::current_exe()
        .map_err(|error| StartError::Kernel("finding this program's own file", error))?;
    let worker = here.with_file_name("void-sandbox-worker");
    for program in [&worker, &here.with_file_name("void-sandbox-compiler")] {
        if !program.is_file() {
            return Err(StartError::Missing(program.display().to_string()));
        }
    }
    Ok(worker)
}

/// Has a thread hash the programs that make and load machine code: what another build made is of no use.
fn hash_programs(worker: &Path) -> Result<thread::JoinHandle<io::Result<[u8; 32]>>, StartError> {
    let programs = [worker.to_owned(), worker.with_file_name("void-sandbox-compiler")];
    let hash = move || {
        let mut hasher = Sha256::new();
        for program in &programs {
            // The digest of each stands for it, whatever its length.
            let mut of_one = Sha256::new();
            io::copy(&mut std::fs::File::open(program)?, &mut of_one)?;
            hasher.update(of_one.finalize());
        }
        Ok(hasher.finalize().into())
    };
    thread::Builder::new()
        .name("programs".into())
        .spawn(hash)
        .map_err(|error| StartError::Kernel("a thread cannot be started", error))
}

/// Opens the code cache. Without it everything works, and each module is compiled after each start.
fn keep_code(
    compiler: &Compiler,
    settings: &Settings,
    engine: u64,
    programs: thread::JoinHandle<io::Result<[u8; 32]>>,
    metrics: &Metrics,
) {
    let programs = programs.join().unwrap_or_else(|_| Err(io::Error::other("the thread died")));
    let files = programs
        .and_then(|programs| Files::open(&settings.state.dir, Build { engine, programs }, metrics.clone()));
    match files {
        Ok(files) => compiler.keep_on_disk(files),
        Err(error) => {
            tracing::warn!(%error, "machine code is not kept on disk: make the folder `code` in WASM_STATE_DIR usable");
        }
    }
}

/// Compiles what was uploaded, one after the other, before anybody runs it.
async fn prepare(app: Arc<App>) {
    loop {
        let (tenant, sha256) = app.preparations.next().await;
        if app.state.draining() {
            return;
        }
        // From memory, as a rule: it was uploaded a moment ago.
        let target = void_api::Target::Cid(void_api::CidText::raw(sha256));
        match app.supply.resolve(&tenant, &target).await {
            Ok(module) => app.compiler.prepare(&tenant, module.sha256, &module.bytes).await,
            Err(error) => tracing::debug!(%error, "an uploaded module is gone before it was compiled"),
        }
    }
}

fn store_config(settings: &Settings) -> StoreConfig {
    StoreConfig {
        dir: settings.state.dir.clone(),
        full_durability: settings.state.durability == Durability::Full,
        runs_keep: settings.retention.runs,
        runs_keep_hours: u64::from(settings.retention.hours),
        node: node(),
    }
}

/// This machine's name, for the source of events.
fn node() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into())
}

fn supply_config(settings: &Settings) -> SupplyConfig {
    let supply = &settings.supply;
    SupplyConfig {
        manifest_dirs: supply.manifest_dirs.clone(),
        cache_dir: Some(supply.cache_dir.clone()),
        ipfs_api: supply.ipfs_api.as_ref().map(ToString::to_string),
        gateways: supply.http_gateways.iter().map(ToString::to_string).collect(),
        fetch_timeout: Duration::from_millis(supply.fetch_timeout_ms),
        max_file_size: supply.max_file_size,
        ..SupplyConfig::new(&settings.state.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::{WARM_UP, WARM_UP_WASI};

    #[test]
    fn the_modules_of_our_own_are_what_their_texts_say() {
        for (text, wasm) in [
            (include_str!("../assets/warm_up.wat"), WARM_UP),
            (include_str!("../assets/warm_up_wasi.wat"), WARM_UP_WASI),
        ] {
            assert_eq!(wat::parse_str(text).unwrap(), wasm, "run wat2wasm, or change the text back");
        }
    }
}
