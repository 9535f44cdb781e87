//! Copying the WAL into the database without the writer waiting for the disk: a thread with its own connection does
//! nearly all of it, the writer only the rest, after which SQLite begins the WAL anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tracing::warn;

use crate::schema::CHECKPOINT_PAGES;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    /// The thread copies.
    Wanted,
    /// The thread is done; the writer copies what came in meanwhile.
    Finish,
    Closed,
}

#[derive(Debug, Default)]
struct Shared {
    phase: Mutex<Phase>,
    wake: Condvar,
    /// Pages in the WAL after the writer's last commit.
    pages: AtomicU32,
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn start(path: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("store-copy".into()).spawn(move || copy_loop(&path, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets [`Checkpointer::after_commit`] know the WAL's length: called for each connection of the writer.
    pub(crate) fn watch(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        conn.wal_hook(Some(move |_: &mut _, pages| {
            shared.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// Called by the writer between groups.
    pub(crate) fn after_commit(&self, conn: &Connection) {
        if self.shared.pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return;
        }
        let mut phase = self.shared.phase.lock();
        match *phase {
            Phase::Idle => {
                *phase = Phase::Wanted;
                drop(phase);
                self.shared.wake.notify_one();
            }
            Phase::Finish => {
                *phase = Phase::Idle;
                drop(phase);
                if let Err(error) = copy(conn, "PASSIVE") {
                    warn!(%error, "the write-ahead log could not be copied into the database; trying again later");
                }
                self.shared.pages.store(0, Ordering::Relaxed);
            }
            Phase::Wanted | Phase::Closed => {}
        }
    }

    /// Leaves an empty WAL behind. Not needed for durability.
    pub(crate) fn last(&mut self, conn: &Connection) {
        self.stop();
        if let Err(error) = copy(conn, "TRUNCATE") {
            warn!(%error, "the write-ahead log stays; it is read at the next start");
        }
    }

    fn stop(&mut self) {
        *self.shared.phase.lock() = Phase::Closed;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn copy_loop(path: &std::path::Path, shared: &Shared) {
    loop {
        let mut phase = shared.phase.lock();
        while *phase != Phase::Wanted {
            if *phase == Phase::Closed {
                return;
            }
            shared.wake.wait(&mut phase);
        }
        drop(phase);
        // A connection for each time: it is rare, and what it cached would be stale.
        let copied =
            Connection::open_with_flags(path, crate::open::flags()).and_then(|conn| copy(&conn, "PASSIVE"));
        if let Err(error) = copied {
            warn!(%error, "the write-ahead log could not be copied into the database; trying again later");
        }
        let mut phase = shared.phase.lock();
        if *phase == Phase::Wanted {
            *phase = Phase::Finish;
        }
    }
}

fn copy(conn: &Connection, how: &str) -> rusqlite::Result<()> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
}
