//! Descriptors of ours on the event loop: readable or not, writable or not. One place for the one call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `inner` with the runtime of the calling thread, for reading alone: a socket that can be written to
/// wakes nobody.
///
/// # Errors
/// The kernel's, when it cannot be watched.
#[expect(
    deprecated,
    reason = "the successor is unsafe to call; what is registered here owns its descriptor and never changes it, which \
              is all that it asks"
)]
pub(crate) fn watch<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, Interest::READABLE)
}

/// As [`watch`], for writing alone. The same descriptor cannot be watched twice; a duplicate of it can.
///
/// # Errors
/// The kernel's, when it cannot be watched.
#[expect(deprecated, reason = "as for `watch`")]
pub(crate) fn watch_writes<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, Interest::WRITABLE)
}

/// Waits for something to read, for at most so long, and nothing else happens on this thread meanwhile.
pub(crate) fn wait_here(socket: BorrowedFd<'_>, patience: Duration) {
    if patience.is_zero() {
        return;
    }
    let mut polled = [PollFd::new(socket, PollFlags::POLLIN)];
    // A signal ends the wait early, which is as good as its time being up.
    let _ = ppoll(&mut polled, Some(patience.into()), None);
}

/// Whether the other end of a socket is closed by all who had it.
pub(crate) fn peer_is_gone(socket: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    // Asked without waiting, it does not fail for a descriptor that is open.
    let _ = poll(&mut polled, PollTimeout::ZERO);
    polled[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}
