//! A connection as bytes, TCP or Unix, with the two things that a hostile client would otherwise get for nothing: a
//! writer that never ends, because nobody reads, and an answer that never arrives, because the close overtakes it.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// How long a write may make no progress at all.
const STALL: Duration = Duration::from_secs(20);
/// How long the rest of a refused body is read and thrown away, so that the refusal is read before the reset.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_BYTES: usize = 256 << 20;
const DISCARD_BYTES: usize = 16 << 10;

/// A connection as it was accepted, on its way to the lane that will serve it.
#[derive(Debug)]
pub(crate) enum StdStream {
    /// Non-blocking.
    Tcp(std::net::TcpStream),
    /// Non-blocking.
    Unix(std::os::unix::net::UnixStream),
}

impl StdStream {
    /// Hands the connection to the runtime of the calling thread.
    pub(crate) fn into_tokio(self) -> io::Result<Stream> {
        let socket = match self {
            Self::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Stream { socket, told: Rc::default(), stalled: None, lingering: None, discarded: 0 })
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    told: Rc<Told>,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Pin<Box<Sleep>>>,
    discarded: usize,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a connection's owner and its stream tell each other.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Counts writes: a connection whose answers move is not idle.
    pub(crate) writes: Cell<u64>,
    /// Something was left unread: read on for a while before closing.
    pub(crate) linger: Cell<bool>,
}

macro_rules! socket {
    ($self:ident, $socket:ident => $call:expr) => {
        match &mut $self.socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl Stream {
    /// Shared with whoever serves the connection.
    pub(crate) fn told(&self) -> Rc<Told> {
        Rc::clone(&self.told)
    }

    /// Looks at what a write came to: progress is noted, and no progress ends in an error in the end.
    fn written(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            self.told.writes.set(self.told.writes.get().wrapping_add(1));
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        socket!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = socket!(self, socket => Pin::new(socket).poll_write(cx, buf));
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = socket!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs));
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets keep nothing back.
        Poll::Ready(Ok(()))
    }

    /// Ends our half. Where something was left unread, the kernel would answer the rest of it with a reset, which can
    /// overtake the answer that says why: so it is read and thrown away, for a while.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(socket!(self, socket => Pin::new(socket).poll_shutdown(cx)))?;
            if !self.told.linger.get() {
                return Poll::Ready(Ok(()));
            }
        }
        let over = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut rest = [0; DISCARD_BYTES];
        loop {
            let mut rest = ReadBuf::new(&mut rest);
            ready!(socket!(self, socket => Pin::new(socket).poll_read(cx, &mut rest)))?;
            self.discarded += rest.filled().len();
            if rest.filled().is_empty() || self.discarded > LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
