//! Threads that read for those who must not block. Each has its own connection and opens it anew when it fails.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::error::ReadError;
use crate::reader::Reader;

type Task = Box<dyn FnOnce(Result<&Reader, ReadError>) + Send>;

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

/// The threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn start(path: &Path, threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut pool = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for _ in 0..threads {
            let (path, shared) = (path.to_path_buf(), Arc::clone(&shared));
            let thread = std::thread::Builder::new().name("store-read".into());
            pool.threads.push(thread.spawn(move || read_loop(path, &shared))?);
        }
        Ok(pool)
    }

    /// Runs `read` on one of the threads.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    {
        let (done, end) = oneshot::channel();
        let task: Task = Box::new(move |reader| {
            if !done.is_closed() {
                let _ = done.send(reader.and_then(read));
            }
        });
        {
            let mut state = self.shared.state.lock();
            if state.closed {
                return Err(ReadError::Closed);
            }
            state.tasks.push_back(task);
        }
        self.shared.wake.notify_one();
        end.await.unwrap_or(Err(ReadError::Closed))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.tasks.clear();
        }
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read_loop(path: PathBuf, shared: &Shared) {
    let mut reader = None;
    loop {
        let task = {
            let mut state = shared.state.lock();
            loop {
                if state.closed {
                    return;
                }
                if let Some(task) = state.tasks.pop_front() {
                    break task;
                }
                shared.wake.wait(&mut state);
            }
        };
        let ready = match reader.take() {
            Some(ready) => Ok(ready),
            None => Reader::open(&path),
        };
        match ready {
            Ok(ready) => {
                task(Ok(&ready));
                reader = Some(ready);
            }
            Err(error) => task(Err(error)),
        }
    }
}
