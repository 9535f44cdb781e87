//! Descriptor 3: the one socket of a worker, read with `read` and written with `write`, for the filter allows no more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use void_ipc::Message;
use void_ipc::limits::FRAME_BYTES;

/// The worker's end of its socket, and the room for what passes through it.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    frame: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Wire {
    /// Takes descriptor 3. Once in a process.
    pub fn take() -> Wire {
        Wire {
            socket: crate::inherited(3),
            frame: Vec::with_capacity(FRAME_BYTES),
            buffer: vec![0; FRAME_BYTES].into_boxed_slice(),
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The socket's, or that the message does not fit a frame.
    pub fn send<T: Message>(&mut self, message: &T) -> io::Result<()> {
        void_ipc::encode(message, &mut self.frame).map_err(io::Error::other)?;
        loop {
            match nix::unistd::write(&self.socket, &self.frame) {
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
            match nix::unistd::read(&self.socket, &mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    return void_ipc::decode(&self.buffer[..length]).map(Some).map_err(io::Error::other);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one message and the descriptors that came with it.
    ///
    /// # Errors
    /// As [`Wire::receive`].
    pub fn receive_with_descriptors<T: Message>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match crate::descriptors::receive(self.socket.as_fd(), &mut self.buffer)? {
            (0, _) => Ok(None),
            (length, descriptors) => void_ipc::decode(&self.buffer[..length])
                .map(|message| Some((message, descriptors)))
                .map_err(io::Error::other),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
