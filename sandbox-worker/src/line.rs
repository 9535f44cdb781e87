//! The worker's one socket, shared by all that may speak on it: the zygote, and in a run process the run, the guest's
//! gateway calls and what the guest writes.
//!
//! What a guest writes is gathered here into pieces. Everything that is said goes through [`Line::send`], which sends
//! what was gathered first, so that the order is the guest's.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use void_ipc::Message;
use void_ipc::limits::PART_BYTES;
use void_ipc::message::{FromRun, Stream, ToRun};
use void_seccomp::Secret;
use void_seccomp::wire::Wire;

/// The socket. Clones are the same one.
///
/// The process has one thread: the lock is never waited for.
#[derive(Debug, Clone)]
pub struct Line(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    wire: Wire,
    // What was written and not sent yet, all of it to one stream.
    gathered: Vec<u8>,
    stream: Stream,
}

impl Line {
    /// Over `wire`.
    pub fn new(wire: Wire) -> Line {
        Line(Arc::new(Mutex::new(Inner { wire, gathered: Vec::new(), stream: Stream::Stdout })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process, so no lock is ever left poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for what a guest writes, so that no run has to.
    pub fn prepare_output(&self) {
        self.inner().gathered.reserve_exact(PART_BYTES);
    }

    /// Forgets what was gathered: what a module of our own wrote is for nobody.
    pub fn forget_output(&self) {
        self.inner().gathered.clear();
    }

    /// Sends one message, after what was gathered.
    ///
    /// # Errors
    /// The socket's, or that the message does not fit a frame.
    pub fn send<T: Message>(&self, message: &T) -> io::Result<()> {
        let mut inner = self.inner();
        inner.flush()?;
        inner.wire.send(message)
    }

    /// Receives one message; `None` when the supervisor has closed the socket.
    ///
    /// # Errors
    /// The socket's, or a frame that is no legal message.
    pub fn receive<T: Message>(&self) -> io::Result<Option<T>> {
        self.inner().wire.receive()
    }

    /// Receives one message, and the numbers of the descriptors that came with it into `numbers`.
    ///
    /// # Errors
    /// As [`Wire::receive_with_descriptors`].
    pub fn receive_with_descriptors<T: Message>(
        &self,
        secret: &Secret,
        numbers: &mut Vec<RawFd>,
    ) -> io::Result<Option<T>> {
        self.inner().wire.receive_with_descriptors(secret, numbers)
    }

    /// Takes what the guest writes. It is sent up to the last end of a line, when a piece is full, and before anything else
    /// is said.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub fn write(&self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.stream != stream {
            inner.flush()?;
            inner.stream = stream;
        }
        while !bytes.is_empty() {
            let fits = &bytes[..bytes.len().min(PART_BYTES - inner.gathered.len())];
            // The first look is many times faster than the second, which mostly ends soon.
            let has_end = fits.contains(&b'\n');
            let ended =
                has_end.then(|| fits.iter().rposition(|byte| *byte == b'\n')).flatten().map(|end| end + 1);
            let (now, later) = bytes.split_at(ended.unwrap_or(fits.len()));
            inner.gathered.extend_from_slice(now);
            if ended.is_some() || inner.gathered.len() == PART_BYTES {
                inner.flush()?;
            }
            bytes = later;
        }
        Ok(())
    }
}

impl Inner {
    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = FromRun::Output { stream: self.stream, bytes: std::mem::take(&mut self.gathered) };
        let sent = self.wire.send(&piece);
        if let FromRun::Output { bytes, .. } = piece {
            self.gathered = bytes;
            self.gathered.clear();
        }
        sent
    }
}

/// What was announced to come in parts.
///
/// # Errors
/// The socket's; anything but parts that make up exactly `length`.
pub fn receive_parts(line: &Line, length: usize) -> io::Result<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    // Without the room the parts are still taken off the socket: what comes after them must not be mistaken.
    let room = whole.try_reserve_exact(length).is_ok();
    let mut left = length;
    while left > 0 {
        let Some(ToRun::Part(part)) = line.receive()? else { return Err(io::ErrorKind::InvalidData.into()) };
        left = match left.checked_sub(part.len()) {
            Some(left) if !part.is_empty() => left,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if room {
            whole.extend_from_slice(&part);
        }
    }
    Ok(room.then_some(whole))
}
