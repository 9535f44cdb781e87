//! A packet socket, typed by direction: what goes out is `Tx`, what comes in is `Rx`.
//!
//! `SOCK_SEQPACKET` keeps frames apart, so a peer that stops in the middle of one leaves nothing
//! half-read behind. Descriptors are taken only where the receiver says how many; a peer that
//! attaches others has them closed by the kernel.

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
};

use crate::limits::FRAME_BYTES;
use crate::{CodecError, Message, decode, encode};

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer is gone.
    #[error("the peer has closed the channel")]
    Closed,
    /// The socket failed; `WouldBlock` where it is non-blocking and not ready.
    #[error("the channel's socket failed: {0}")]
    Io(#[from] io::Error),
    /// The frame was not a legal message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Descriptors came, or did not come, as the message says.
    #[error("the message came with {0} descriptors, which is not what it says")]
    Descriptors(usize),
}

impl ChannelError {
    /// Whether waiting for readiness and trying again is the right thing.
    pub fn would_block(&self) -> bool {
        matches!(self, ChannelError::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn from_errno(errno: Errno) -> ChannelError {
    match errno {
        Errno::EPIPE | Errno::ECONNRESET => ChannelError::Closed,
        other => ChannelError::Io(other.into()),
    }
}

/// Receives, and once more after a reset. A peer that ends with something unread resets the channel, which the kernel says
/// once and before what the peer wrote last: why a worker could not come to be is such a word, and its order lies unread.
fn past_a_reset<T>(mut receive: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match receive() {
        Err(Errno::ECONNRESET) => receive(),
        received => received,
    }
}

/// One end of a typed packet socket. No call on it waits, whatever the socket's own flags are.
#[derive(Debug)]
pub struct Channel<Tx, Rx> {
    socket: OwnedFd,
    directions: PhantomData<fn(Tx) -> Rx>,
}

/// Both ends: a near one, which as a [`Channel`] never blocks, and a far one, which does.
///
/// # Errors
/// The kernel's, when out of descriptors or memory.
pub fn pair<Tx, Rx>() -> io::Result<(Channel<Tx, Rx>, OwnedFd)> {
    let (near, far) =
        socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Channel::from(near), far))
}

impl<Tx, Rx> From<OwnedFd> for Channel<Tx, Rx> {
    fn from(socket: OwnedFd) -> Self {
        Channel { socket, directions: PhantomData }
    }
}

impl<Tx, Rx> AsRawFd for Channel<Tx, Rx> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl<Tx, Rx> AsFd for Channel<Tx, Rx> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<Tx: Message, Rx: Message> Channel<Tx, Rx> {
    /// Asks the kernel to say with each packet which process wrote it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tell_senders(&self) -> io::Result<()> {
        Ok(socket::setsockopt(&self.socket, socket::sockopt::PassCred, &true)?)
    }

    /// Sends one message with `descriptors`. `frame` is scratch space.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] when the peer is gone; `WouldBlock` when it does not read.
    pub fn send(
        &self,
        message: &Tx,
        descriptors: &[BorrowedFd<'_>],
        frame: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        encode(message, frame)?;
        if descriptors.is_empty() {
            socket::send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
                .map_err(from_errno)?;
            return Ok(());
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        socket::sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(frame)],
            &[ControlMessage::ScmRights(&raw)],
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )
        .map_err(from_errno)?;
        Ok(())
    }

    /// Receives one message that brings no descriptor. `buffer` is scratch space.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] at the end, `WouldBlock` when nothing is there, or a codec error.
    pub fn receive(&self, buffer: &mut ReceiveBuffer) -> Result<Rx, ChannelError> {
        let receive = || socket::recv(self.socket.as_raw_fd(), &mut buffer.bytes, MsgFlags::MSG_DONTWAIT);
        match past_a_reset(receive).map_err(from_errno)? {
            0 => Err(ChannelError::Closed),
            length => Ok(decode(&buffer.bytes[..length])?),
        }
    }

    /// As [`Channel::receive`], and who sent it, as the kernel says ([`Channel::tell_senders`]).
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub fn receive_with_sender(
        &self,
        buffer: &mut ReceiveBuffer,
    ) -> Result<(Rx, Option<UnixCredentials>), ChannelError> {
        let mut control = cmsg_space!(UnixCredentials);
        let receive = || {
            let mut io = [IoSliceMut::new(&mut buffer.bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let received =
                socket::recvmsg::<()>(self.socket.as_raw_fd(), &mut io, Some(&mut control), flags)?;
            let sender = received.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmCredentials(credentials) => Some(credentials),
                    _ => None,
                })
            });
            Ok((received.bytes, received.flags, sender))
        };
        let (length, flags, sender) = past_a_reset(receive).map_err(from_errno)?;
        // There is room for the sender's credentials alone, and nothing else may come upward.
        if flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(ChannelError::Descriptors(1));
        }
        match length {
            0 => Err(ChannelError::Closed),
            length => Ok((decode(&buffer.bytes[..length])?, sender)),
        }
    }
}

/// Where received frames lie. One for each thread is enough; it never grows.
#[derive(Debug)]
pub struct ReceiveBuffer {
    bytes: Box<[u8]>,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        ReceiveBuffer { bytes: vec![0; FRAME_BYTES].into_boxed_slice() }
    }
}
