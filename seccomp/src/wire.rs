//! Descriptor 3: the one socket of a worker, read with `read` and written with `write`, for the filter allows no more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use void_ipc::Message;

use crate::Secret;

/// The worker's end of its socket, and the room for what passes through it, in one direction at a time: what came is
/// taken out of it before anything is sent.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    room: &'static mut [u8],
}

impl Wire {
    /// Takes descriptor 3, and room for a frame ([`void_ipc::limits::FRAME_BYTES`]). Once in a process.
    pub fn take(room: &'static mut [u8]) -> Wire {
        Wire { socket: crate::inherited(3), room }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The socket's, or that the message does not fit a frame.
    pub fn send<T: Message>(&mut self, message: &T) -> io::Result<()> {
        let length = void_ipc::encode_into(message, self.room).map_err(io::Error::other)?;
        loop {
            match nix::unistd::write(&self.socket, &self.room[..length]) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one message; `None` when the supervisor has closed the socket.
    ///
    /// # Errors
    /// The socket's, or a frame that is no legal message.
    pub fn receive<T: Message>(&mut self) -> io::Result<Option<T>> {
        loop {
            match nix::unistd::read(&self.socket, &mut *self.room) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    return void_ipc::decode(&self.room[..length]).map(Some).map_err(io::Error::other);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one message, and the numbers of the descriptors that came with it into `numbers`: a zygote cannot close one
    /// of them alone, so nothing may own them. [`crate::fork::close_received`] closes them.
    ///
    /// # Errors
    /// As [`Wire::receive`].
    pub fn receive_with_descriptors<T: Message>(
        &mut self,
        secret: &Secret,
        numbers: &mut Vec<RawFd>,
    ) -> io::Result<Option<T>> {
        match secret.receive(self.room, numbers)? {
            0 => Ok(None),
            length => void_ipc::decode(&self.room[..length]).map(Some).map_err(io::Error::other),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
