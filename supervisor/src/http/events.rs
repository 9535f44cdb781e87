//! `GET /v1/events`: what happened and happens, as Server-Sent Events, one CloudEvent each.
//!
//! Each stream reads from the store at its client's pace and keeps one page in memory; nobody waits for it, and one whose
//! client stops reading ends with its connection (see `stream`). Heartbeats keep both ends sure of each other.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use tokio::sync::watch;
use tokio::time::sleep;
use void_api::{Problem, ProblemCode};
use void_store::{Event, EventFilter, EventKind};

use super::answer::{self, Answer};
use super::body::Body;
use super::connection::Counted;
use super::query::Query;
use crate::app::App;
use crate::lane::Lane;

/// Events read at once.
const PAGE: usize = 128;
/// Shorter than the time after which a connection counts as idle.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Sent at once, so that the client has its answer: a browser that lost the stream tries again after a second, from where
/// the stream began, if no event came before. By the HTML standard an id alone is remembered, and is no event.
fn greeting(after: u64) -> Bytes {
    format!("retry: 1000\nid: {after}\n\n").into()
}
const STILL_HERE: &[u8] = b":\n\n";

/// Begins a stream.
pub(super) fn follow(lane: &Rc<Lane>, tenant: Arc<str>, parts: &Parts) -> Result<Answer, Problem> {
    let query = Query::read(parts.uri.query(), &["type", "run_id"], &[])?;
    let types = "wasm.exec.started, wasm.exec.finished, wasm.exec.error or wasm.guest.emit";
    let filter = EventFilter {
        tenant: Some(tenant.to_string()),
        run_id: query.parse("run_id", "the name of a run", |text| text.parse().ok())?,
        kind: query.parse("type", types, EventKind::from_name)?,
    };
    let newest = lane.app.store.watch_events();
    // From now on; but all that is known of one run, so that nobody has to be faster than the run.
    let after = match last_seen(&parts.headers)? {
        // An id from before the state was lost or exchanged must not hide what comes now.
        Some(after) => after.min(*newest.borrow()),
        None if filter.run_id.is_some() => 0,
        None => *newest.borrow(),
    };
    let reader = Reader {
        drain: lane.app.state.drain_begun(),
        _counted: Counted::one(lane.app.metrics.http().streams()),
        app: Arc::clone(&lane.app),
        filter,
        after,
        newest,
    };
    let stream = EventStream { next: Next::Greet(reader) };
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(answer::not_kept(answer::with_body(StatusCode::OK, kind, Body::Events(Box::new(stream)))))
}

/// The number of the last event that the client has.
fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match number.and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::new(
            ProblemCode::InvalidHeader,
            "the header Last-Event-ID is no id of an event: give the last one received, or leave it away",
        )),
    }
}

/// The events of one client.
pub(super) struct EventStream {
    next: Next,
}

type Reading = Pin<Box<dyn Future<Output = Option<(Reader, Bytes)>>>>;

enum Next {
    Greet(Reader),
    Read(Reading),
    End,
}

impl EventStream {
    /// The next piece of the answer; `None` at its end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match std::mem::replace(&mut self.next, Next::End) {
            Next::End => Poll::Ready(None),
            Next::Greet(reader) => {
                let greeting = greeting(reader.after);
                self.next = Next::Read(Box::pin(reader.read()));
                Poll::Ready(Some(greeting))
            }
            Next::Read(mut reading) => {
                let polled = reading.as_mut().poll(cx);
                if polled.is_pending() {
                    self.next = Next::Read(reading);
                }
                let Some((reader, piece)) = ready!(polled) else { return Poll::Ready(None) };
                reader.app.metrics.http().streamed(piece.len());
                self.next = Next::Read(Box::pin(reader.read()));
                Poll::Ready(Some(piece))
            }
        }
    }
}

/// Where one client is.
struct Reader {
    app: Arc<App>,
    filter: EventFilter,
    /// The last event that was sent or passed over.
    after: u64,
    newest: watch::Receiver<u64>,
    drain: watch::Receiver<bool>,
    _counted: Counted,
}

impl Reader {
    /// The next events, or a heartbeat; `None` where the stream must end.
    async fn read(mut self) -> Option<(Reader, Bytes)> {
        loop {
            // Before the store is asked, so that what comes in between wakes us.
            let newest = *self.newest.borrow_and_update();
            if newest > self.after {
                let page = self.app.store.events_after(self.after, self.filter.clone(), PAGE).await;
                let page =
                    page.inspect_err(|error| tracing::error!(%error, "events could not be read")).ok()?;
                self.after = page.scanned_to;
                if !page.events.is_empty() {
                    let piece = render(&page.events);
                    return Some((self, piece));
                }
                if page.scanned_to < page.newest {
                    continue;
                }
            }
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                () = begun(&mut self.drain) => return None,
                () = sleep(HEARTBEAT) => return Some((self, Bytes::from_static(STILL_HERE))),
            }
        }
    }
}

async fn begun(drain: &mut watch::Receiver<bool>) {
    // The sender lives as long as the service.
    let _ = drain.wait_for(|begun| *begun).await;
}

/// Events on the wire. A CloudEvent is JSON in one line, so that nothing in it can end its own.
fn render(events: &[Event]) -> Bytes {
    let mut wire = BytesMut::with_capacity(events.len() * 512);
    for event in events {
        match event.cloud_event() {
            Ok(json) => {
                wire.put_slice(format!("id: {}\ndata: ", event.seq).as_bytes());
                wire.put_slice(&json);
                wire.put_slice(b"\n\n");
            }
            // Ending here would bring every client back to the same event.
            Err(error) => {
                tracing::error!(%error, seq = event.seq, "a stored event is damaged and was left out")
            }
        }
    }
    wire.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use void_api::RunId;

    #[test]
    fn events_are_one_line_each() {
        let event = Event {
            seq: 7,
            at: 1000,
            kind: EventKind::GuestEmit,
            tenant: "t".into(),
            source: "/void-wasm/n".into(),
            run_id: RunId::from_u128(1),
            data: Bytes::from_static(b"{\"event\":\"a\\nb\"}"),
        };
        let wire = String::from_utf8(render(&[event.clone(), event]).to_vec()).unwrap();
        let lines: Vec<&str> = wire.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!((lines[0], lines[2]), ("id: 7", ""));
        assert!(lines[1].starts_with("data: {") && lines[1].contains("\"id\":\"7\""), "{wire}");
    }

    #[test]
    fn the_last_id_is_a_number() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_static(value));
            last_seen(&headers)
        };
        assert_eq!(with("0").unwrap(), Some(0));
        assert_eq!(with("18").unwrap(), Some(18));
        for bad in ["", "x", "+1", "-1", "99999999999999999999"] {
            assert_eq!(with(bad).unwrap_err().code, ProblemCode::InvalidHeader, "{bad}");
        }
        assert_eq!(last_seen(&HeaderMap::new()).unwrap(), None);
    }
}
