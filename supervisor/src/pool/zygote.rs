//! A zygote from the supervisor's side: starting, ready, dead; its slots; the run processes that wait.
//!
//! ```text
//! starting ─ Ready ▶ ready ─ retired after enough forks, cold, or dead ─▶ gone
//!     └─ Refused, Unloadable, end of its socket ─▶ dead
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use void_ipc::channel::{self, Channel, ChannelError};
use void_ipc::limits::SLOTS;
use void_ipc::message::{FromZygote, Refused, Role, Setup, ToZygote};

use super::process::{Exit, RunProcess};
use super::{BUFFERS, LeaseError, Nursery};
use crate::compile::Code;
use crate::metrics::{self, Metrics};
use crate::readiness;

/// Run processes that may wait ahead of requests.
const SPARES_MAX: usize = 4;

/// Forks after which a zygote is replaced: its address layout is not kept for ever, and its CPU limit is not met.
const FORKS_MAX: u32 = 100_000;

/// Time that a zygote has to get ready.
const START_TIME: Duration = Duration::from_secs(20);

type Socket = AsyncFd<Channel<ToZygote, FromZygote>>;

enum State {
    Starting,
    Ready,
    Dead(LeaseError),
}

/// A zygote.
pub(crate) struct Zygote {
    socket: Rc<Socket>,
    listener: RefCell<Option<AbortHandle>>,
    // What it maps; kept so that the code cache's size tells the truth.
    _code: Arc<Code>,
    metrics: Metrics,
    state: RefCell<State>,
    changed: Notify,
    spares: RefCell<VecDeque<RunProcess>>,
    exits: RefCell<[Option<oneshot::Sender<Exit>>; SLOTS]>,
    leased: Cell<usize>,
    forks: Cell<u32>,
    last_used: Cell<Instant>,
    missing: RefCell<Vec<Refused>>,
}

impl std::fmt::Debug for Zygote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Zygote").field("forks", &self.forks.get()).finish_non_exhaustive()
    }
}

impl Zygote {
    /// Starts one. It is there at once and ready later.
    pub(super) fn start(
        nursery: &Nursery,
        mem_pages_max: u32,
        code: Arc<Code>,
    ) -> Result<Rc<Zygote>, LeaseError> {
        let died = |what: &dyn std::fmt::Display| LeaseError::Died(what.to_string());
        let (channel, theirs) = channel::pair::<ToZygote, FromZygote>().map_err(|error| died(&error))?;
        let setup = Setup {
            mem_pages_max,
            cpu_seconds_max: nursery.cpu_seconds_max,
            cpu: nursery.cpu,
            reuse: false,
            allow_weaker: nursery.allow_weaker,
        };
        channel.send(&ToZygote::Setup(setup), &[], &mut Vec::new()).map_err(|error| died(&error))?;
        nursery
            .spawner
            .spawn(Role::Zygote, theirs, code.descriptor(), nursery.warm_up.descriptor())
            .map_err(|error| died(&error))?;
        nursery.metrics.worker_started(metrics::Role::Zygote);
        let zygote = Rc::new(Zygote {
            socket: Rc::new(readiness::watch(channel).map_err(|error| died(&error))?),
            listener: RefCell::default(),
            _code: code,
            metrics: nursery.metrics.clone(),
            state: RefCell::new(State::Starting),
            changed: Notify::new(),
            spares: RefCell::default(),
            exits: RefCell::new([const { None }; SLOTS]),
            leased: Cell::new(0),
            forks: Cell::new(0),
            last_used: Cell::new(Instant::now()),
            missing: RefCell::default(),
        });
        let listener = tokio::task::spawn_local(listen(Rc::clone(&zygote.socket), Rc::downgrade(&zygote)));
        *zygote.listener.borrow_mut() = Some(listener.abort_handle());
        Ok(zygote)
    }

    /// A run process: one that waits, or a new one.
    pub(super) async fn lease(self: &Rc<Self>) -> Result<Lease, LeaseError> {
        self.last_used.set(Instant::now());
        loop {
            let changed = self.changed.notified();
            match &*self.state.borrow() {
                State::Dead(error) => return Err(error.clone()),
                State::Starting => {}
                State::Ready => {
                    let spare = self.spares.borrow_mut().pop_front();
                    let leased = match spare {
                        Some(spare) => Some(spare),
                        None => self.fork().map_err(|error| LeaseError::Died(error.to_string()))?,
                    };
                    if let Some(process) = leased {
                        self.leased.set(self.leased.get() + 1);
                        return Ok(Lease { process, place: Place(Rc::clone(self)) });
                    }
                }
            }
            if tokio::time::timeout(START_TIME, changed).await.is_err() {
                return Err(LeaseError::Died(format!("not ready after {} s", START_TIME.as_secs())));
            }
        }
    }

    /// Forks ahead as many as were in use at once.
    fn top_up(&self, wanted: usize) {
        while self.takes_runs() && self.spares.borrow().len() < wanted.clamp(1, SPARES_MAX) {
            match self.fork() {
                Ok(Some(spare)) => self.spares.borrow_mut().push_back(spare),
                // No slot is free: the next end of a process brings one.
                Ok(None) => return,
                Err(error) => return self.die(LeaseError::Died(error.to_string())),
            }
        }
    }

    pub(super) fn takes_runs(&self) -> bool {
        !matches!(&*self.state.borrow(), State::Dead(_)) && self.forks.get() < FORKS_MAX
    }

    pub(super) fn idle(&self) -> bool {
        self.leased.get() == 0
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// Orders a run process. `None` when every slot is taken.
    fn fork(&self) -> Result<Option<RunProcess>, ChannelError> {
        let Some(slot) = self.exits.borrow().iter().position(Option::is_none) else { return Ok(None) };
        let (near, far) = channel::pair()?;
        let (sender, receiver) = oneshot::channel();
        let process = RunProcess::new(near, receiver)?;
        let order = ToZygote::Fork { slot: u8::try_from(slot).unwrap_or(u8::MAX) };
        BUFFERS.with_borrow_mut(|(_, frame)| self.socket.get_ref().send(&order, &[far.as_fd()], frame))?;
        self.exits.borrow_mut()[slot] = Some(sender);
        self.forks.set(self.forks.get() + 1);
        self.metrics.worker_started(metrics::Role::Run);
        Ok(Some(process))
    }

    fn free(&self, slot: u8) -> Option<oneshot::Sender<Exit>> {
        self.exits.borrow_mut().get_mut(usize::from(slot)).and_then(Option::take)
    }

    fn die(&self, why: LeaseError) {
        *self.state.borrow_mut() = State::Dead(why);
        // What waited is gone with it, and whoever waits for an end hears that none will be reported.
        self.spares.borrow_mut().clear();
        for exit in self.exits.borrow_mut().iter_mut() {
            if exit.take().is_some() {
                self.metrics.worker_ended(metrics::Role::Run, metrics::Cause::Killed);
            }
        }
        self.changed.notify_waiters();
    }

    fn handle(&self, message: FromZygote) -> Result<(), LeaseError> {
        match message {
            FromZygote::Ready { missing } => {
                *self.missing.borrow_mut() = missing;
                *self.state.borrow_mut() = State::Ready;
                self.changed.notify_waiters();
            }
            FromZygote::Refused(refused) => return Err(LeaseError::Refused(refused)),
            FromZygote::Unloadable(unloadable) => return Err(LeaseError::Unloadable(unloadable)),
            FromZygote::ForkFailed { slot, errno } => {
                tracing::warn!(errno, "a run process could not be forked");
                self.free(slot);
                self.changed.notify_waiters();
            }
            FromZygote::Exited { slot, status, cpu_ns, .. } => {
                let exit = Exit { status, cpu: Duration::from_nanos(cpu_ns) };
                let Some(waiting) = self.free(slot) else { return Ok(()) };
                self.metrics.worker_ended(metrics::Role::Run, cause(exit));
                // Nobody needs to wait for it.
                let _ = waiting.send(exit);
                self.changed.notify_waiters();
            }
        }
        Ok(())
    }
}

fn cause(exit: Exit) -> metrics::Cause {
    match exit.signal() {
        None => metrics::Cause::Exit,
        Some(libc::SIGKILL) => metrics::Cause::Killed,
        Some(libc::SIGSYS) => metrics::Cause::Seccomp,
        Some(_) => metrics::Cause::Crashed,
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            // With the listener goes the last hold on the socket, and the zygote ends.
            listener.abort();
        }
        if !matches!(self.state.get_mut(), State::Dead(_)) {
            self.metrics.worker_ended(metrics::Role::Zygote, metrics::Cause::Retired);
            self.die(LeaseError::Died("it was retired".into()));
        }
    }
}

/// A run process in use. Dropping it, for whatever reason, ends the process, and another is forked ahead.
#[derive(Debug)]
pub(crate) struct Lease {
    process: RunProcess,
    place: Place,
}

impl Lease {
    /// Layers that its zygote could not take on (only where weaker isolation is allowed).
    pub(crate) fn missing(&self) -> Vec<Refused> {
        self.place.0.missing.borrow().clone()
    }
}

impl Deref for Lease {
    type Target = RunProcess;

    fn deref(&self) -> &RunProcess {
        &self.process
    }
}

/// Gives the place back after the process is gone: the fields of a lease are dropped in their order.
#[derive(Debug)]
struct Place(Rc<Zygote>);

impl Drop for Place {
    fn drop(&mut self) {
        let in_use = self.0.leased.get();
        self.0.leased.set(in_use.saturating_sub(1));
        self.0.top_up(in_use);
    }
}

/// Reads what a zygote says until it is gone. Holds it weakly: a zygote that nobody uses ends.
async fn listen(socket: Rc<Socket>, zygote: Weak<Zygote>) {
    loop {
        let received = receive(&socket).await;
        let Some(zygote) = zygote.upgrade() else { return };
        let failed = match received {
            Ok(message) => zygote.handle(message).err(),
            Err(error) => Some(LeaseError::Died(error.to_string())),
        };
        if let Some(why) = failed {
            zygote.metrics.worker_ended(metrics::Role::Zygote, metrics::Cause::Crashed);
            zygote.die(why);
            return;
        }
    }
}

async fn receive(socket: &Socket) -> Result<FromZygote, ChannelError> {
    loop {
        let mut ready = socket.readable().await?;
        match BUFFERS.with_borrow_mut(|(buffer, _)| socket.get_ref().receive(buffer)) {
            Err(error) if error.would_block() => ready.clear_ready(),
            received => return received,
        }
    }
}
