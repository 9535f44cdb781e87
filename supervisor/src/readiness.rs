//! Descriptors of ours on the event loop: readable or not, nothing else. One place for the one call.

use std::io;
use std::os::fd::AsRawFd;

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
