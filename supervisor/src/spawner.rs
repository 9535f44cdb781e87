//! The spawner, as the supervisor sees it: one socket to it, and a new one whenever it has died.
//!
//! The supervisor does not fork. It starts the spawner through the standard library (`posix_spawn`), and
//! always from its main thread: the kernel ends the spawner when the *thread* that started it ends.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use void_ipc::channel::{self, Channel, ChannelError};
use void_ipc::message::{Role, ToSpawner};

use crate::metrics::{self, Metrics};

/// User numbers that workers get in turn, where the spawner may choose.
const USERS: u16 = 60_000;

/// Pause before a spawner that died is replaced, so that one that cannot live does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a worker that is to be started waits for a spawner that is busy or not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two tries.
const RETRY: Duration = Duration::from_millis(5);

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The spawner has died and its successor is not there yet.
    #[error("the spawner has died; its successor is on its way")]
    Gone,
    /// The order could not be sent.
    #[error("the spawner cannot be reached: {0}")]
    Channel(#[from] ChannelError),
}

impl SpawnError {
    /// Whether the next moment may be better.
    fn passes(&self) -> bool {
        match self {
            SpawnError::Gone | SpawnError::Channel(ChannelError::Closed) => true,
            SpawnError::Channel(error) => error.would_block(),
        }
    }
}

/// The way to the spawner.
#[derive(Debug)]
pub(crate) struct Spawner {
    program: PathBuf,
    allow_weaker: bool,
    socket: ArcSwapOption<Channel<ToSpawner, ToSpawner>>,
    next_user: AtomicU16,
}

impl Spawner {
    /// A spawner that is yet to be started: `program` is the worker's file.
    pub(crate) fn new(program: &Path, allow_weaker: bool) -> Arc<Spawner> {
        Arc::new(Spawner {
            program: program.to_owned(),
            allow_weaker,
            socket: ArcSwapOption::empty(),
            next_user: AtomicU16::new(0),
        })
    }

    /// Starts a worker with these descriptors (3, 4 and 5). Whether it came to be is said on `control`'s other end.
    /// A spawner that is busy, or has died and is about to be replaced, is waited for.
    pub(crate) async fn spawn(
        &self,
        role: Role,
        control: BorrowedFd<'_>,
        fourth: BorrowedFd<'_>,
        fifth: BorrowedFd<'_>,
    ) -> Result<(), SpawnError> {
        let user_slot = self.next_user.fetch_add(1, Ordering::Relaxed) % USERS;
        let order = ToSpawner::Spawn { role, user_slot };
        let begun = Instant::now();
        loop {
            let sent = match self.socket.load_full() {
                None => Err(SpawnError::Gone),
                Some(socket) => socket
                    .send(&order, &[control, fourth, fifth], &mut Vec::new())
                    .map_err(SpawnError::Channel),
            };
            match sent {
                Err(error) if error.passes() && begun.elapsed() < PATIENCE => tokio::time::sleep(RETRY).await,
                ended => return ended,
            }
        }
    }

    /// Starts the process. From the main thread.
    pub(crate) fn start(&self) -> io::Result<Child> {
        let (ours, theirs) = channel::pair()?;
        let child = Command::new(&self.program)
            .args(["spawner", &std::process::id().to_string()])
            .arg(if self.allow_weaker { "weaker" } else { "strict" })
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.socket.store(Some(Arc::new(ours)));
        Ok(child)
    }

    /// Keeps a spawner alive, for ever. The main thread's work.
    pub(crate) fn keep(&self, mut child: Child, metrics: &Metrics) -> ! {
        loop {
            let ended = child.wait();
            self.socket.store(None);
            metrics.worker_ended(metrics::Role::Spawner, metrics::Cause::Crashed);
            tracing::error!(ended = ?ended, "the spawner has died; it and its workers are replaced");
            child = loop {
                std::thread::sleep(PAUSE);
                match self.start() {
                    Ok(child) => break child,
                    Err(error) => tracing::error!(%error, "the spawner cannot be started; trying again"),
                }
            };
            metrics.worker_started(metrics::Role::Spawner);
        }
    }
}
