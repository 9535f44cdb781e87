//! What the supervisor sees of a process from outside: its CPU time, and its end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys;

/// CPU time that process `pid` has used, user and system.
///
/// # Errors
/// The kernel's, when there is no such process.
pub fn cpu_time(pid: i32) -> io::Result<Duration> {
    sys::cpu_time(pid)
}

/// Bytes that were sent into a Unix socket and that its other end has not read, roughly: 0 means that all has been read.
pub fn unread(socket: BorrowedFd<'_>) -> usize {
    // For a socket that is open the question does not fail.
    sys::unread(socket).unwrap_or(0)
}

/// A process that can be killed without doubt about which one it is.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// Refers to process `pid`. The caller then makes sure that `pid` was still the process it
    /// means (its socket is not closed): from here on the number does not matter.
    ///
    /// # Errors
    /// The kernel's, when there is no such process.
    pub fn open(pid: i32) -> io::Result<Process> {
        sys::open_process(pid).map(Process)
    }

    /// Kills it. A process that has ended already is not an error.
    ///
    /// # Errors
    /// The kernel's, when the process is not ours to kill.
    pub fn kill(&self) -> io::Result<()> {
        match sys::kill_process(self.0.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

impl AsRawFd for Process {
    /// Readable once the process has ended.
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
