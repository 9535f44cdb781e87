//! A zygote from the supervisor's side: starting, ready, dead; its slots; the run processes that wait.
//!
//! ```text
//! starting ─ Ready ▶ ready ─ retired after enough forks, cold, or dead ─▶ gone
//!     └─ Refused, Unloadable, end of its socket ─▶ dead
//! ```
//! Waking a process costs as much as forking it, so orders go out in groups: when few spares are left, the
//! processes that have answered are let go and as many new ones are ordered, in one message.

mod listen;
mod tidy;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use void_ipc::channel::{self, Channel, ChannelError};
use void_ipc::limits::{FORKS, SLOTS};
use void_ipc::message::{Exited, FromZygote, Layer, Refused, Role, Setup, ToZygote};

use super::lease::Lease;
use super::process::{Exit, RunProcess, Spare};
use super::{BUFFERS, InUse, Key, LeaseError, Nursery, Zygotes};
use crate::check;
use crate::compile::Code;
use crate::metrics::{self, Metrics};
use crate::readiness;
use listen::listen;
use tidy::tidy;

/// Forks after which a zygote is replaced: its address layout is not kept for ever, and its CPU limit is not met.
const FORKS_MAX: u32 = 100_000;

/// Time that a zygote has to get ready.
const START_TIME: Duration = Duration::from_secs(20);

/// Time that a run process has to say that it is ready. It takes microseconds of CPU time.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// A zygote without requests for this long lets go of what has ended, and has it reaped.
const QUIET: Duration = Duration::from_millis(20);

/// Time that a run process has to end after its answer. A sound one needs microseconds of CPU time.
const LEAVE_TIME: Duration = Duration::from_millis(500);

/// Run processes that may turn out to be dead before one that is wanted is given up: something is wrong with the zygote.
const DEAD_SPARES: u32 = FORKS as u32;

/// A zygote without requests for this long keeps one spare.
const IDLE: Duration = Duration::from_secs(2);

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
    spares: RefCell<VecDeque<Spare>>,
    /// Its run processes may be used again.
    reuse: Cell<bool>,
    /// Have served and wait for another run; the one used last is at the end.
    idle_again: RefCell<Vec<Rc<RunProcess>>>,
    /// Spares to have after an order: doubled whenever they run low, one again when nobody comes.
    wanted: Cell<usize>,
    /// An order went out when the last process was taken back.
    ordered: Cell<bool>,
    /// Have answered, and wait for the end of their socket.
    answered: RefCell<Vec<Rc<RunProcess>>>,
    /// Have been told that nothing more will come, and when. One that stays nevertheless is killed.
    leaving: RefCell<Vec<(Instant, Rc<RunProcess>)>>,
    exits: RefCell<[Option<oneshot::Sender<Exit>>; SLOTS]>,
    leased: Cell<usize>,
    forks: Cell<u32>,
    last_used: Cell<Instant>,
    tidied: Cell<bool>,
    missing: RefCell<Vec<Refused>>,
    /// What it may be missing.
    proven: Option<Arc<[Layer]>>,
}

impl std::fmt::Debug for Zygote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Zygote").field("forks", &self.forks.get()).finish_non_exhaustive()
    }
}

impl Zygote {
    /// Starts one. It is there at once and ready later, and when it has died it is no longer `among` the others.
    pub(super) fn start(
        nursery: &Nursery,
        key: &Key,
        code: Arc<Code>,
        among: Weak<Zygotes>,
    ) -> Result<Rc<Zygote>, LeaseError> {
        let died = |what: &dyn std::fmt::Display| LeaseError::Died(what.to_string());
        let (channel, theirs) = channel::pair::<ToZygote, FromZygote>().map_err(|error| died(&error))?;
        let setup = Setup {
            mem_pages_max: key.mem_pages_max,
            cpu_seconds_max: key.cpu_seconds_max,
            cpu: nursery.cpu,
            allow_weaker: nursery.allow_weaker,
            reuse: nursery.reuse,
        };
        channel.send(&ToZygote::Setup(setup), &[], &mut Vec::new()).map_err(|error| died(&error))?;
        nursery.metrics.worker_started(metrics::Role::Zygote);
        let zygote = Rc::new(Zygote {
            socket: Rc::new(readiness::watch(channel).map_err(|error| died(&error))?),
            listener: RefCell::default(),
            _code: Arc::clone(&code),
            metrics: nursery.metrics.clone(),
            state: RefCell::new(State::Starting),
            changed: Notify::new(),
            spares: RefCell::default(),
            reuse: Cell::new(false),
            idle_again: RefCell::default(),
            wanted: Cell::new(1),
            ordered: Cell::new(false),
            answered: RefCell::default(),
            leaving: RefCell::default(),
            exits: RefCell::new([const { None }; SLOTS]),
            leased: Cell::new(0),
            forks: Cell::new(0),
            last_used: Cell::new(Instant::now()),
            tidied: Cell::new(true),
            missing: RefCell::default(),
            proven: nursery.proven.clone(),
        });
        let listening = listen(Rc::clone(&zygote.socket), Rc::downgrade(&zygote), among);
        let listener = tokio::task::spawn_local(listening);
        *zygote.listener.borrow_mut() = Some(listener.abort_handle());
        let warm_up = if check::uses_wasi(&code) { &nursery.warm_up_wasi } else { &nursery.warm_up };
        let (weak, spawner, warm_up) =
            (Rc::downgrade(&zygote), Arc::clone(&nursery.spawner), Arc::clone(warm_up));
        tokio::task::spawn_local(async move {
            let spawned =
                spawner.spawn(Role::Zygote, theirs.as_fd(), code.descriptor(), warm_up.descriptor()).await;
            if let (Err(error), Some(zygote)) = (spawned, weak.upgrade()) {
                zygote.die(LeaseError::Died(error.to_string()));
            }
        });
        Ok(zygote)
    }

    /// A run process that waits for its order: one that was forked ahead, or a new one.
    pub(super) async fn lease(self: &Rc<Self>, in_use: &Rc<InUse>) -> Result<Lease, LeaseError> {
        let begun = Instant::now();
        self.last_used.set(begun);
        let mut dead = 0;
        loop {
            let changed = self.changed.notified();
            let ready = match &*self.state.borrow() {
                State::Dead(error) => return Err(error.clone()),
                State::Starting => false,
                State::Ready => true,
            };
            if ready {
                if let Some(process) = self.used_before() {
                    return Ok(self.leased(process, in_use));
                }
                if self.spares.borrow().is_empty() {
                    // Others will follow: one order for each of them would wake the zygote each time.
                    self.restock(self.wanted.get())?;
                }
                let spare = self.spares.borrow_mut().pop_front();
                if let Some(spare) = spare {
                    let process = RunProcess::new(spare);
                    let Some(ready) = process.is_ready(FIRST_WORD).await else {
                        return Err(LeaseError::Died("its run process does not say that it is ready".into()));
                    };
                    if ready {
                        return Ok(self.leased(Rc::new(process), in_use));
                    }
                    // It was not forked, or was killed while it waited.
                    dead += 1;
                    if dead > DEAD_SPARES {
                        return Err(LeaseError::Died("its run processes end before they begin".into()));
                    }
                    continue;
                }
            }
            let waited = tokio::time::timeout(if ready { QUIET } else { START_TIME }, changed).await;
            if waited.is_err() && begun.elapsed() >= START_TIME {
                return Err(LeaseError::Died(format!("no run process after {} s", START_TIME.as_secs())));
            }
        }
    }

    fn leased(self: &Rc<Self>, process: Rc<RunProcess>, in_use: &Rc<InUse>) -> Lease {
        self.leased.set(self.leased.get() + 1);
        in_use.borrow_mut().push(Rc::clone(&process));
        Lease::new(process, Rc::clone(self), Rc::clone(in_use))
    }

    /// A process that has served before and can again. One that cannot any more is let go.
    fn used_before(&self) -> Option<Rc<RunProcess>> {
        loop {
            let process = self.idle_again.borrow_mut().pop()?;
            if process.begin_again() {
                return Some(process);
            }
            self.answered.borrow_mut().push(process);
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

    /// Takes back a process that has answered. It is let go together with others.
    pub(super) fn take_back(self: &Rc<Self>, process: Rc<RunProcess>) {
        self.leased.set(self.leased.get().saturating_sub(1));
        if self.tidied.replace(false) {
            tokio::task::spawn_local(tidy(Rc::downgrade(self)));
        }
        if self.reuse.get() && process.take_sound() && self.takes_runs() {
            self.idle_again.borrow_mut().push(process);
            // One that waits for a fork need not any more.
            self.changed.notify_waiters();
            return;
        }
        self.answered.borrow_mut().push(process);
        if self.ordered.replace(false) {
            // Not in the breath of an order: closing a socket while others are on their way in a message sends the
            // kernel through all of them (its collector of unreachable sockets).
            self.let_go();
        }
        let wanted = self.wanted.get();
        let low = self.spares.borrow().len() <= wanted / 4;
        if low && self.takes_runs() {
            self.wanted.set((wanted * 2).min(FORKS));
            self.ordered.set(true);
            if let Err(error) = self.restock(self.wanted.get()) {
                self.die(error);
            }
        }
    }

    /// Tells those that have answered to leave, and sees to it that those told before have left.
    fn let_go(&self) {
        let now = Instant::now();
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|(told, process)| {
            let stays = !process.is_gone();
            if stays && now - *told > LEAVE_TIME {
                tracing::warn!(
                    "a run process stayed after its answer and is killed: its module may have broken out"
                );
                process.kill();
                return false;
            }
            stays
        });
        for process in self.answered.borrow_mut().drain(..) {
            process.say_goodbye();
            leaving.push((now, process));
        }
    }

    /// Orders run processes until there are `wanted` spares, as far as slots are free.
    fn restock(&self, wanted: usize) -> Result<(), LeaseError> {
        let died = |error: &dyn std::fmt::Display| LeaseError::Died(error.to_string());
        let missing = wanted.saturating_sub(self.spares.borrow().len()).min(FORKS);
        let slots = self.free_slots(missing);
        if slots.is_empty() {
            // The next report of ends brings some.
            return self.order(&ToZygote::Reap, &[]).or_else(unless_busy).map_err(|error| died(&error));
        }
        let (mut spares, mut far) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
        for _ in &slots {
            let (channel, theirs) = channel::pair().map_err(|error| died(&error))?;
            channel.tell_senders().map_err(|error| died(&error))?;
            let (sender, exit) = oneshot::channel();
            spares.push((Spare { channel, exit }, sender));
            far.push(theirs);
        }
        // The zygote takes the last descriptor first.
        let far: Vec<BorrowedFd<'_>> = far.iter().rev().map(AsFd::as_fd).collect();
        match self.order(&ToZygote::Fork { slots: slots.clone() }, &far) {
            // It has enough orders: when it has carried one out there is news, and another try.
            Err(error) if error.would_block() => return Ok(()),
            ordered => ordered.map_err(|error| died(&error))?,
        }
        self.forks.set(self.forks.get() + u32::try_from(slots.len()).unwrap_or(u32::MAX));
        for (slot, (spare, sender)) in slots.into_iter().zip(spares) {
            self.exits.borrow_mut()[usize::from(slot)] = Some(sender);
            self.spares.borrow_mut().push_back(spare);
            self.metrics.worker_started(metrics::Role::Run);
        }
        Ok(())
    }

    pub(super) fn order(&self, order: &ToZygote, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        BUFFERS.with_borrow_mut(|(_, frame)| self.socket.get_ref().send(order, descriptors, frame))
    }

    fn free_slots(&self, most: usize) -> Vec<u8> {
        let exits = self.exits.borrow();
        let free = exits.iter().enumerate().filter(|(_, exit)| exit.is_none());
        free.filter_map(|(slot, _)| u8::try_from(slot).ok()).take(most).collect()
    }

    fn free(&self, slot: u8) -> Option<oneshot::Sender<Exit>> {
        self.exits.borrow_mut().get_mut(usize::from(slot)).and_then(Option::take)
    }

    fn die(&self, why: LeaseError) {
        *self.state.borrow_mut() = State::Dead(why);
        // What waited is gone with it, and whoever waits for an end hears that none will be reported.
        self.spares.borrow_mut().clear();
        self.idle_again.borrow_mut().clear();
        self.answered.borrow_mut().clear();
        self.leaving.borrow_mut().clear();
        for exit in self.exits.borrow_mut().iter_mut() {
            if exit.take().is_some() {
                self.metrics.worker_ended(metrics::Role::Run, metrics::Cause::Killed);
            }
        }
        self.changed.notify_waiters();
    }

    fn handle(&self, message: FromZygote) -> Result<(), LeaseError> {
        match message {
            FromZygote::Ready { missing, reuse } => {
                let may_miss = |layer| self.proven.as_ref().is_none_or(|proven| proven.contains(layer));
                if let Some(more) = missing.iter().find(|refused| !may_miss(&refused.layer)) {
                    return Err(LeaseError::Refused(more.clone()));
                }
                self.reuse.set(reuse);
                *self.missing.borrow_mut() = missing;
                *self.state.borrow_mut() = State::Ready;
            }
            FromZygote::Refused(refused) => return Err(LeaseError::Refused(refused)),
            FromZygote::Unloadable(unloadable) => return Err(LeaseError::Unloadable(unloadable)),
            FromZygote::ForkFailed { slot, errno } => {
                tracing::warn!(errno, "a run process could not be forked");
                self.free(slot);
            }
            FromZygote::Exited(ended) => {
                for Exited { slot, status, cpu_ns } in ended {
                    let exit = Exit { status, cpu: Duration::from_nanos(cpu_ns) };
                    let Some(waiting) = self.free(slot) else { continue };
                    self.metrics.worker_ended(metrics::Role::Run, cause(exit));
                    // Nobody needs to wait for it.
                    let _ = waiting.send(exit);
                }
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Layers that it could not take on.
    pub(super) fn missing(&self) -> Vec<Refused> {
        self.missing.borrow().clone()
    }

    /// Processes that wait for a run.
    fn waiting(&self) -> usize {
        self.spares.borrow().len() + self.idle_again.borrow().len()
    }

    /// Keeps one process that waits for a run: one that has served before, where there is one.
    fn keep_one(&self) {
        let mut again = self.idle_again.borrow_mut();
        let surplus = again.len().saturating_sub(1);
        self.answered.borrow_mut().extend(again.drain(..surplus));
        self.spares.borrow_mut().truncate(1 - again.len());
    }

    /// Processes that are neither spare nor in use nor waiting to be let go: ended, and not reported yet.
    fn unreported(&self) -> usize {
        let alive = self.waiting() + self.answered.borrow().len() + self.leased.get();
        self.exits.borrow().iter().flatten().count().saturating_sub(alive)
    }
}

/// A zygote that has orders enough will hear of this one's matter with the next.
fn unless_busy(error: ChannelError) -> Result<(), ChannelError> {
    if error.would_block() { Ok(()) } else { Err(error) }
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
