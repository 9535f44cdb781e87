//! The threads that look for a module on this machine, read it and hash it.
//!
//! As many as there are processors: hashing leaves none idle, so more of them only take turns. A thread goes from one
//! piece of work to the next without sleeping, and the caller wakes at most one. Where the disk and not the processor
//! is what they wait for (nothing has been begun for a moment, though something waits), others are started, which go
//! again when they are idle.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

/// The most threads; beyond, work waits for a disk that hangs.
const MOST: usize = 16;
/// Work that waits this long while none is begun is what another thread is started for.
const STALL: Duration = Duration::from_millis(5);
/// A thread beyond the first ones ends when it has had nothing to do for this long.
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped, and what has not begun then never does.
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that sleep and that nobody has woken.
    idle: usize,
    /// Pieces of work begun, ever.
    begun: u64,
    /// Somebody looks whether work stalls.
    watched: bool,
    ended: bool,
}

impl Readers {
    /// Starts one thread for each processor that the calling thread may use.
    pub(crate) fn start() -> std::io::Result<Self> {
        let first = thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let readers = Self { shared: Arc::default() };
        for _ in 0..first {
            readers.shared.add_thread(true)?;
        }
        Ok(readers)
    }

    /// Has `work` done. `on` is where the waiting is watched: a thread that is started from there runs on any
    /// processor, and one started from here where the caller is pinned.
    pub(crate) fn run(&self, on: &Handle, work: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.waiting.push_back(Box::new(work));
        // Under the lock, so that a thread whose sleep ends by itself in this moment is not counted twice.
        if state.idle > 0 && self.shared.wake.notify_one() {
            state.idle -= 1;
        } else if !state.watched && state.threads < MOST {
            state.watched = true;
            drop(state);
            on.spawn(watch(self.shared.clone()));
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let never = {
            let mut state = self.shared.state.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        self.shared.wake.notify_all();
        drop(never);
    }
}

/// Starts threads for as long as work waits and none is begun.
async fn watch(shared: Arc<Shared>) {
    loop {
        let before = shared.state.lock().begun;
        tokio::time::sleep(STALL).await;
        let stalls = {
            let mut state = shared.state.lock();
            if state.waiting.is_empty() || state.threads >= MOST || state.ended {
                state.watched = false;
                return;
            }
            state.begun == before
        };
        if stalls && let Err(error) = shared.add_thread(false) {
            tracing::warn!(%error, "no further thread to read modules with");
        }
    }
}

impl Shared {
    fn add_thread(self: &Arc<Self>, lasting: bool) -> std::io::Result<()> {
        let shared = self.clone();
        self.state.lock().threads += 1;
        let started =
            thread::Builder::new().name("module-read".to_owned()).spawn(move || shared.work(lasting));
        if started.is_err() {
            self.state.lock().threads -= 1;
        }
        started.map(drop)
    }

    fn work(&self, lasting: bool) {
        let mut state = self.state.lock();
        while !state.ended {
            if let Some(work) = state.waiting.pop_front() {
                state.begun += 1;
                drop(state);
                // Who waits for it is told by what the work held.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("reading a module died");
                }
                state = self.state.lock();
                continue;
            }
            state.idle += 1;
            if lasting {
                self.wake.wait(&mut state);
            } else if self.wake.wait_for(&mut state, IDLE).timed_out() {
                // Who wakes a thread counts it; this one was not woken.
                state.idle -= 1;
                if state.waiting.is_empty() {
                    break;
                }
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_hangs_does_not_hold_up_the_rest() {
        let on = Handle::current();
        let readers = Readers::start().unwrap();
        let first = readers.shared.state.lock().threads;
        let mut hanging = Vec::new();
        for _ in 0..MOST - 1 {
            let (let_go, held) = mpsc::channel::<()>();
            let (begun, began) = mpsc::channel();
            readers.run(&on, move || {
                begun.send(()).unwrap();
                let _ = held.recv();
            });
            hanging.push((let_go, began));
        }
        let (done, is_done) = mpsc::channel();
        readers.run(&on, move || done.send(()).unwrap());
        tokio::task::spawn_blocking(move || {
            is_done.recv_timeout(LONG).unwrap();
            // All of them did begin, and none has ended.
            hanging.iter().for_each(|(_, began)| began.recv_timeout(LONG).unwrap());
        })
        .await
        .unwrap();
        let threads = readers.shared.state.lock().threads;
        assert!((first..=MOST).contains(&threads), "{threads}");
    }

    #[tokio::test]
    async fn work_that_panics_takes_no_thread_with_it() {
        let readers = Readers::start().unwrap();
        for _ in 0..2 * MOST {
            readers.run(&Handle::current(), || panic!("on purpose"));
        }
        let (done, is_done) = mpsc::channel();
        readers.run(&Handle::current(), move || done.send(()).unwrap());
        is_done.recv_timeout(LONG).unwrap();
    }

    #[tokio::test]
    async fn what_has_not_begun_at_the_end_is_dropped() {
        let readers = Readers::start().unwrap();
        let (let_go, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        // On this runtime nothing watches meanwhile, so no thread is added.
        for _ in 0..MOST {
            let held = held.clone();
            readers.run(&Handle::current(), move || {
                let _ = held.lock().recv();
            });
        }
        let (done, is_done) = mpsc::channel::<()>();
        readers.run(&Handle::current(), move || {
            let _ = done.send(());
        });
        drop(readers);
        assert_eq!(is_done.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(let_go);
    }
}
