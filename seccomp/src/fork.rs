//! Forking a run process from a zygote, and reaping it. For the zygote alone, which is single-threaded.

use std::io;
use std::os::fd::RawFd;

use crate::sys::{self, Secret};

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Side {
    /// The zygote; the run process has this number in the zygote's namespace.
    Zygote(i32),
    /// The run process.
    Run,
}

/// A run process that was reaped.
#[derive(Debug, Clone, Copy)]
pub struct Reaped {
    /// Its number in the zygote's namespace.
    pub pid: i32,
    /// As `wait4` gives it.
    pub status: i32,
    /// User and system time of its whole life, nanoseconds.
    pub cpu_ns: u64,
}

/// Forks. On the run's side `socket` is descriptor 3 (in the place of the zygote's own) and the only one
/// beside the streams, and the secret is gone: of the filter that it shares with the zygote the run's rules are left.
///
/// # Errors
/// The kernel's, in the zygote. A run process that cannot be made so ends.
pub fn fork(secret: &Secret, socket: RawFd) -> io::Result<Side> {
    match secret.fork(socket)? {
        0 => Ok(Side::Run),
        pid => Ok(Side::Zygote(pid)),
    }
}

/// Closes the sockets that came with an order: the runs have them now.
///
/// # Errors
/// The kernel's.
pub fn close_received(secret: &Secret) -> io::Result<()> {
    secret.close_all_others()
}

/// Reaps one run process that has ended, if there is one.
pub fn reap(secret: &Secret) -> Option<Reaped> {
    let nanoseconds = |time: libc::timeval| {
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_usec.unsigned_abs() * 1_000
    };
    secret.reap().map(|(pid, status, usage)| Reaped {
        pid,
        status,
        cpu_ns: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
    })
}

/// Calls `handler` when this process's CPU time is used up. The handler must be async-signal-safe: no allocation, no lock.
///
/// # Errors
/// The kernel's.
pub fn on_cpu_limit(handler: extern "C" fn(i32)) -> io::Result<()> {
    sys::on_signal(libc::SIGXCPU, handler)
}

/// Writes one packet to descriptor 3. Async-signal-safe.
pub fn write_packet(bytes: &[u8]) -> bool {
    sys::write_raw(3, bytes)
}

/// Closes every descriptor beyond the streams and the socket. Whoever holds one of them must not use it again, and
/// the process must leave through [`crate::exit`].
///
/// # Errors
/// The kernel's.
pub fn keep_only_the_socket() -> io::Result<()> {
    sys::close_from(4)
}
