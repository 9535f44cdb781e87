//! One run process: its socket, its number, and how it ended.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use void_ipc::channel::{Channel, ChannelError};
use void_ipc::limits::PART_BYTES;
use void_ipc::message::{FromRun, ToRun};
use void_seccomp::watch::{self, Process};

use super::BUFFERS;
use crate::readiness;

/// How the kernel says that a run process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// As `wait4` gives it.
    pub(crate) status: i32,
    /// User and system time of its whole life.
    pub(crate) cpu: Duration,
}

impl Exit {
    /// The signal that ended it, where one did.
    pub(crate) fn signal(self) -> Option<i32> {
        let signal = self.status & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }
}

/// A run process that waits for a request. It is not watched: what it says first lies in its socket until it is used.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) channel: Channel<ToRun, FromRun>,
    pub(super) exit: oneshot::Receiver<Exit>,
}

/// How long a lane waits for a run process without doing anything else. Most runs end sooner, and putting their socket on the
/// event loop takes a good part of what they take. Once it is there, as for one that makes gateway calls, the loop is the
/// cheaper wait: a timer so short is set in the processor's hardware each time, which a virtual machine pays for dearly.
const PATIENCE: Duration = Duration::from_micros(200);

/// A socket's number, while somebody else owns the socket.
#[derive(Debug)]
struct Number(RawFd);

impl AsRawFd for Number {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn would_block<T>(received: &Result<T, ChannelError>) -> bool {
    matches!(received, Err(error) if error.would_block())
}

/// A run process. Dropping it closes its socket, and it ends.
#[derive(Debug)]
pub(crate) struct RunProcess {
    /// Its socket on the event loop, from the first wait there on. Dropped before the socket is.
    watched: OnceCell<AsyncFd<Number>>,
    /// The same socket, watched for room to write; made when it is first waited for.
    writes: OnceCell<AsyncFd<OwnedFd>>,
    channel: Channel<ToRun, FromRun>,
    /// How long to wait on the spot.
    patience: Cell<Duration>,
    pid: Cell<Option<i32>>,
    /// It has been sent its order, and is not known to have read it.
    ordered: Cell<bool>,
    /// It was made, or sent its order, since it was last listened to.
    told: Cell<bool>,
    /// It may be on other processors than its lane's.
    away: Cell<bool>,
    /// CPU time that it had used before the present run.
    before: Cell<Duration>,
    /// Runs that it has served to their end as they should.
    served: Cell<u32>,
    /// Its last run ended in such a way that it can serve another.
    sound: Cell<bool>,
    exit: RefCell<oneshot::Receiver<Exit>>,
}

/// Runs after which a process is not used again, and CPU time after which it is not: its address layout is not kept for
/// ever, and the kernel's limit stays far (see [`super::cpu_seconds_max`]).
const RUNS_MAX: u32 = 10_000;
const CPU_MAX: Duration = Duration::from_secs(20);

impl RunProcess {
    /// A spare that is put to use.
    pub(super) fn new(spare: Spare) -> RunProcess {
        let Spare { channel, exit } = spare;
        RunProcess {
            watched: OnceCell::new(),
            writes: OnceCell::new(),
            channel,
            patience: Cell::new(PATIENCE),
            pid: Cell::new(None),
            ordered: Cell::new(false),
            told: Cell::new(true),
            away: Cell::new(false),
            before: Cell::new(Duration::ZERO),
            served: Cell::new(0),
            sound: Cell::new(false),
            exit: RefCell::new(exit),
        }
    }

    /// Waits for it on the event loop alone: it stands back from others, who would have to wait with it.
    pub(crate) fn be_patient_elsewhere(&self) {
        self.patience.set(Duration::ZERO);
    }

    /// Waits for its first word, and says whether it was the right one; `None` where it says none. From then on its number is
    /// known, so that it can be killed, and it waits for its order. It was forked ahead: the word usually lies there already.
    pub(super) async fn is_ready(&self, patience: Duration) -> Option<bool> {
        let first = match self.try_receive() {
            Err(error) if error.would_block() => tokio::time::timeout(patience, self.receive()).await.ok()?,
            received => received,
        };
        Some(matches!(first, Ok(FromRun::Ready)) && self.pid.get().is_some() && !self.is_gone())
    }

    /// The run ended as it should: where processes are used again, this one can be.
    pub(crate) fn served(&self) {
        self.served.set(self.served.get() + 1);
        self.sound.set(true);
    }

    /// Whether its last run ended as it should, for the one who asks first.
    pub(super) fn take_sound(&self) -> bool {
        self.sound.replace(false) && self.served.get() < RUNS_MAX
    }

    /// Makes it ready for another run, where it lives and has said nothing that it was not asked for. What it does
    /// from here on is the next run's.
    pub(super) fn begin_again(&self) -> bool {
        let Some(used) = self.pid.get().and_then(|pid| watch::cpu_time(pid).ok()) else { return false };
        self.before.set(used);
        self.patience.set(PATIENCE);
        used < CPU_MAX && self.receive_now().is_none() && !self.is_gone()
    }

    /// The message that lies there, if one does. The socket itself is asked, whatever the event loop knows of it by now.
    pub(crate) fn receive_now(&self) -> Option<Result<FromRun, ChannelError>> {
        let Some(watched) = self.watched.get() else {
            return Some(self.try_receive()).filter(|received| !would_block(received));
        };
        let mut context = Context::from_waker(Waker::noop());
        let ready = watched.poll_read_ready(&mut context);
        match self.try_receive() {
            Err(error) if error.would_block() => {
                // Then the next wait need not ask again.
                if let Poll::Ready(Ok(mut ready)) = ready {
                    ready.clear_ready();
                }
                None
            }
            received => Some(received),
        }
    }

    fn try_receive(&self) -> Result<FromRun, ChannelError> {
        let received = BUFFERS.with_borrow_mut(|(buffer, _)| self.channel.receive_with_sender(buffer));
        received.map(|(message, sender)| {
            self.ordered.set(false);
            if let Some(sender) = sender.filter(|sender| sender.pid() > 0) {
                self.pid.set(Some(sender.pid()));
            }
            message
        })
    }

    /// Sends a message, if the process has taken enough of those before.
    ///
    /// # Errors
    /// `WouldBlock` where it has not.
    pub(crate) fn send(&self, message: &ToRun) -> Result<(), ChannelError> {
        if matches!(message, ToRun::Start(_)) {
            self.ordered.set(true);
            self.told.set(true);
        }
        BUFFERS.with_borrow_mut(|(_, frame)| self.channel.send(message, &[], frame))
    }

    /// Sends a message as soon as the process has taken enough of those before.
    pub(crate) async fn send_when_taken(&self, message: &ToRun) -> Result<(), ChannelError> {
        // Most processes are never waited for so, and watching costs each of them wake-ups.
        let writes = match self.writes.get() {
            Some(writes) => writes,
            None => {
                let again = self.channel.as_fd().try_clone_to_owned()?;
                let watched = readiness::watch_writes(again)?;
                self.writes.get_or_init(|| watched)
            }
        };
        loop {
            let mut ready = writes.writable().await?;
            match self.send(message) {
                Err(error) if error.would_block() => ready.clear_ready(),
                sent => return sent,
            }
        }
    }

    /// Sends what the guest is to read from its standard input, as fast as it is taken. A process that is gone takes
    /// nothing; that it is gone is noticed elsewhere.
    pub(crate) async fn feed(&self, stdin: &str) {
        for part in stdin.as_bytes().chunks(PART_BYTES) {
            if self.send_when_taken(&ToRun::Part(part.to_vec())).await.is_err() {
                return;
            }
        }
    }

    /// Whether its order may still lie unread in its socket, so that its guest has not begun and will.
    pub(super) fn will_begin(&self) -> bool {
        if self.ordered.get() && !self.is_gone() && watch::unread(self.channel.as_fd()) == 0 {
            self.ordered.set(false);
        }
        self.ordered.get() && !self.is_gone()
    }

    /// The next message, and with the first one the process's number.
    pub(crate) async fn receive(&self) -> Result<FromRun, ChannelError> {
        // It has had no turn on the processor since: looking first would find nothing.
        if self.told.replace(false) {
            readiness::wait_here(self.channel.as_fd(), self.patience.get());
        }
        let soon = self.try_receive();
        if !would_block(&soon) {
            return soon;
        }
        let watched = match self.watched.get() {
            Some(watched) => watched,
            None => {
                let watched = readiness::watch(Number(self.channel.as_raw_fd()))?;
                self.watched.get_or_init(|| watched)
            }
        };
        loop {
            let mut ready = watched.readable().await?;
            match self.try_receive() {
                Err(error) if error.would_block() => ready.clear_ready(),
                received => return received,
            }
        }
    }

    /// Its number, once it has said a word.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid.get()
    }

    /// CPU time used by the present run so far, as the kernel says.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.pid.get().and_then(|pid| watch::cpu_time(pid).ok()).map(|used| self.of_this_run(used))
    }

    /// What of a CPU time of the whole process is the present run's.
    pub(crate) fn of_this_run(&self, used: Duration) -> Duration {
        used.saturating_sub(self.before.get())
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        if let Some(process) = self.opened() {
            put_to_death(&process);
        }
    }

    /// Kills it and waits until it is dead: no line of it is executed any more, whenever its zygote takes notice.
    pub(crate) async fn kill_and_wait(&self) {
        let Some(process) = self.opened() else { return };
        put_to_death(&process);
        // Readable means ended. Where it cannot be watched, the signal has been sent all the same.
        if let Ok(process) = readiness::watch(process) {
            let _ = process.readable().await;
        }
    }

    /// Itself, where it is alive. Nothing is killed by mistake: its number is only believed while its socket is open.
    fn opened(&self) -> Option<Process> {
        let process = Process::open(self.pid.get()?).ok()?;
        (!self.is_gone()).then_some(process)
    }

    /// Whether it may be on other processors than its lane's.
    pub(crate) fn is_away(&self) -> bool {
        self.away.get()
    }

    /// Says on which processors it may be: on all (`away`), when it turned out to compute for longer than a message takes.
    pub(crate) fn stay_on(&self, processors: &nix::sched::CpuSet, away: bool) {
        self.away.set(away);
        if let Some(pid) = self.pid.get() {
            // It may be gone already; then there is nothing to move.
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(pid), processors);
        }
    }

    /// Waits until its zygote reports its end. `None` where the zygote died with it.
    pub(super) async fn exited(&self) -> Option<Exit> {
        std::future::poll_fn(|context| {
            let mut exit = self.exit.borrow_mut();
            std::pin::Pin::new(&mut *exit).poll(context)
        })
        .await
        .ok()
    }

    /// Says that nothing more will come: a sound process ends then.
    pub(super) fn say_goodbye(&self) {
        // A process that is gone already needs no goodbye.
        let _ = nix::sys::socket::shutdown(self.channel.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Whether it has ended: its end of the socket is closed, and it alone had it.
    pub(super) fn is_gone(&self) -> bool {
        readiness::peer_is_gone(self.channel.as_fd())
    }
}

fn put_to_death(process: &Process) {
    if let Err(error) = process.kill() {
        tracing::error!(%error, "a run process cannot be killed");
    }
}
