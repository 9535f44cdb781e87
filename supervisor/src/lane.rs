//! Lanes: one thread for each processor, each with its own event loop, connections, zygotes and run processes.
//!
//! A request is read, executed and answered on one processor. Waking another one costs more than a short run.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::app::App;
use crate::pool::{Nursery, Pool};
use crate::recover::Resumed;
use crate::stream::StdStream;

/// How long a guest that was ordered to begin may take to do so once execution is held.
const TO_BEGIN: Duration = Duration::from_secs(2);

/// What a lane's thread owns.
pub(crate) struct Lane {
    /// What all lanes share.
    pub(crate) app: Arc<App>,
    /// Its zygotes.
    pub(crate) pool: Pool,
    /// Its processor.
    pub(crate) home: nix::sched::CpuSet,
    /// Every processor that the service may use.
    pub(crate) everywhere: nix::sched::CpuSet,
}

impl Lane {
    /// Runs `task` on this lane, whatever becomes of whoever asked for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }
}

/// Work for a lane.
pub(crate) enum Work {
    /// A connection to serve.
    Connection(StdStream, String),
    /// A run that was accepted before a restart.
    Resume(Box<Resumed>),
    /// Execution is held: to be answered when every guest that was ordered to begin has begun, or never will.
    Settle(oneshot::Sender<()>),
}

/// A lane, as others see it.
pub(crate) struct Handle {
    work: mpsc::UnboundedSender<Work>,
    connections: Arc<AtomicUsize>,
}

/// All lanes.
pub(crate) struct Lanes(Vec<Handle>);

impl Lanes {
    /// Starts one on each processor of `processors`.
    pub(crate) fn start(app: &Arc<App>, nursery: &Nursery, processors: &[u16]) -> io::Result<Lanes> {
        let mut lanes = Vec::new();
        for &cpu in processors {
            let (work, inbox) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            let lane = Start {
                app: Arc::clone(app),
                nursery: Nursery { cpu: Some(cpu), ..nursery.clone() },
                home: all_of(&[cpu])?,
                everywhere: all_of(processors)?,
                connections: Arc::clone(&connections),
            };
            thread::Builder::new().name(format!("lane-{cpu}")).spawn(move || lane.run(inbox))?;
            lanes.push(Handle { work, connections });
        }
        Ok(Lanes(lanes))
    }

    /// Gives a connection to the lane that has the fewest.
    pub(crate) fn serve(&self, stream: StdStream, peer: String) {
        if let Some(lane) = self.0.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed)) {
            lane.connections.fetch_add(1, Ordering::Relaxed);
            // A lane ends with the process alone.
            let _ = lane.work.send(Work::Connection(stream, peer));
        }
    }

    /// Spreads runs that were accepted before a restart.
    pub(crate) fn resume(&self, runs: impl Iterator<Item = Resumed>) {
        for (run, lane) in runs.zip(self.0.iter().cycle()) {
            let _ = lane.work.send(Work::Resume(Box::new(run)));
        }
    }

    /// When execution is held: waits until every guest that was ordered to begin has begun, or never will.
    pub(crate) async fn settle(&self) {
        let answers = self.0.iter().map(|lane| {
            let (answer, settled) = oneshot::channel();
            let _ = lane.work.send(Work::Settle(answer));
            settled
        });
        for settled in answers.collect::<Vec<_>>() {
            // A lane ends with the process alone.
            let _ = settled.await;
        }
    }
}

struct Start {
    app: Arc<App>,
    nursery: Nursery,
    home: nix::sched::CpuSet,
    everywhere: nix::sched::CpuSet,
    connections: Arc<AtomicUsize>,
}

impl Start {
    fn run(self, inbox: mpsc::UnboundedReceiver<Work>) {
        if let Some(cpu) = self.nursery.cpu
            && let Err(error) = void_seccomp::process::stay_on(cpu)
        {
            tracing::warn!(cpu, %error, "a lane cannot stay on its processor; it will be slower");
        }
        // Without effect on older kernels, and then nothing is lost.
        let _ = void_seccomp::process::take_short_turns();
        // A run's answer and the next request show at the sockets: look there often.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = match builder.enable_all().event_interval(8).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a lane has no event loop");
                std::process::exit(71);
            }
        };
        let connections = self.connections;
        let lane = Rc::new(Lane {
            app: self.app,
            pool: Pool::new(self.nursery),
            home: self.home,
            everywhere: self.everywhere,
        });
        LocalSet::new().block_on(&runtime, work(lane, connections, inbox));
    }
}

async fn work(lane: Rc<Lane>, connections: Arc<AtomicUsize>, mut inbox: mpsc::UnboundedReceiver<Work>) {
    while let Some(work) = inbox.recv().await {
        match work {
            Work::Connection(stream, peer) => {
                let (served, connections) = (Rc::clone(&lane), Arc::clone(&connections));
                lane.spawn(async move {
                    let _counted = Counted(connections);
                    crate::http::serve_connection(served, stream, peer).await;
                });
            }
            Work::Resume(run) => crate::run::resume(&lane, *run),
            Work::Settle(answer) => {
                let settling = Rc::clone(&lane);
                lane.spawn(async move {
                    settling.pool.settle(TO_BEGIN).await;
                    let _ = answer.send(());
                });
            }
        }
    }
}

/// A connection that ends, however it ends, is one less.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn all_of(processors: &[u16]) -> io::Result<nix::sched::CpuSet> {
    let mut set = nix::sched::CpuSet::new();
    for &cpu in processors {
        set.set(usize::from(cpu))?;
    }
    Ok(set)
}
