//! Receiving descriptors that travel with a message. Only downward: the supervisor never uses this.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::sys;

/// The most descriptors that travel with one message.
pub const MOST: usize = void_ipc::limits::FORKS;

/// Receives one packet into `buffer`: its length, 0 at the end, and the descriptors that came with it.
///
/// # Errors
/// The kernel's.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([i32; MOST]);
    let mut io = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut io, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // Each number was made for this process by this very call, so it is ours alone.
            descriptors.extend(numbers.into_iter().map(sys::inherited));
        }
    }
    Ok((received.bytes, descriptors))
}
