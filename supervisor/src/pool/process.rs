//! One run process: its socket, its number, and how it ended.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use void_ipc::channel::{Channel, ChannelError};
use void_ipc::message::{FromRun, Start, ToRun};
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

/// A run process. Dropping it closes its socket, and it ends.
#[derive(Debug)]
pub(crate) struct RunProcess {
    channel: AsyncFd<Channel<ToRun, FromRun>>,
    pid: Cell<Option<i32>>,
    exit: RefCell<oneshot::Receiver<Exit>>,
}

impl RunProcess {
    /// Begins to watch a spare.
    pub(super) fn new(spare: Spare) -> io::Result<RunProcess> {
        let Spare { channel, exit } = spare;
        Ok(RunProcess { channel: readiness::watch(channel)?, pid: Cell::new(None), exit: RefCell::new(exit) })
    }

    /// The message that lies there, if one does.
    pub(crate) fn receive_now(&self) -> Option<Result<FromRun, ChannelError>> {
        match self.try_receive() {
            Err(error) if error.would_block() => None,
            received => Some(received),
        }
    }

    fn try_receive(&self) -> Result<FromRun, ChannelError> {
        let received =
            BUFFERS.with_borrow_mut(|(buffer, _)| self.channel.get_ref().receive_with_sender(buffer));
        received.map(|(message, sender)| {
            if let Some(sender) = sender.filter(|sender| sender.pid() > 0) {
                self.pid.set(Some(sender.pid()));
            }
            message
        })
    }

    /// Sends the request.
    pub(crate) fn send(&self, start: Start) -> Result<(), ChannelError> {
        BUFFERS.with_borrow_mut(|(_, frame)| self.channel.get_ref().send(&ToRun::Start(start), &[], frame))
    }

    /// The next message, and with the first one the process's number.
    pub(crate) async fn receive(&self) -> Result<FromRun, ChannelError> {
        loop {
            let mut ready = self.channel.readable().await?;
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

    /// CPU time used so far, as the kernel says.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.pid.get().and_then(|pid| watch::cpu_time(pid).ok())
    }

    /// Kills it. Nothing is killed by mistake: its number is only believed while its socket is open.
    pub(crate) fn kill(&self) {
        let Some(pid) = self.pid.get() else { return };
        let Ok(process) = Process::open(pid) else { return };
        if !self.is_gone()
            && let Err(error) = process.kill()
        {
            tracing::error!(%error, "a run process cannot be killed");
        }
    }

    /// Lets it move to any processor: it turned out to compute for longer than a message takes.
    pub(crate) fn let_move(&self, everywhere: &nix::sched::CpuSet) {
        if let Some(pid) = self.pid.get() {
            // It may be gone already; then there is nothing to move.
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(pid), everywhere);
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
        readiness::peer_is_gone(self.channel.get_ref().as_fd())
    }
}
