//! Bodies: a request's, read whole within bounds of size and time, and an answer's.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::time::timeout;

use super::events::EventStream;

/// Memory that is set aside because a client says that it is going to send so much; more when it has come.
const TRUSTED_BYTES: usize = 1 << 20;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is, or says that it is, larger than allowed.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// The connection failed, or its framing is broken.
    Broken,
}

/// Whether the head announces more than `max` bytes.
pub(super) fn announces_more(headers: &HeaderMap, max: usize) -> bool {
    // What is no number was refused by the parser.
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    announced.is_some_and(|announced| announced > max as u64)
}

/// Reads a body of at most `max` bytes that comes within `patience`.
pub(super) async fn read(body: Incoming, max: usize, patience: Duration) -> Result<Bytes, Unread> {
    timeout(patience, read_all(body, max)).await.unwrap_or(Err(Unread::Slow))
}

async fn read_all(mut body: Incoming, max: usize) -> Result<Bytes, Unread> {
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > max {
        return Err(Unread::TooLarge);
    }
    // The usual request comes in one piece, which is not copied.
    if body.is_end_stream() {
        return Ok(first);
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole =
        BytesMut::with_capacity(first.len() + announced.min(TRUSTED_BYTES).min(max - first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    while let Some(piece) = next(&mut body).await? {
        if piece.len() > max - whole.len() {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The next piece that holds data; trailers hold none.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Unread> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unread::Broken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The body of an answer.
pub(super) enum Body {
    /// All of it; empty when it has been sent.
    Whole(Bytes),
    /// Events for as long as the client stays.
    Events(Box<EventStream>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Events(stream) => {
                stream.poll_next(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Events(_) => SizeHint::default(),
        }
    }
}
