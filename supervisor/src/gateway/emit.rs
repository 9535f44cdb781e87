//! `emit`: an event of the guest, on its way to the store in the run's own order.
//!
//! A guest is answered when its event has its place in the run's outbox; nobody waits for a commit. What is in there goes
//! to the store after a moment, or when there is much of it, and at the latest together with the end of the run. If the
//! supervisor dies before, the last moment's events are lost together with the end: the run is then `interrupted`, or was
//! never told to anybody. Memory is bounded: a guest that emits faster than the store writes waits for the store.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use void_api::RunId;
use void_ipc::message::{Refusal, Reply};
use void_policy::judge::EmitPermit;
use void_store::{Batch, Commit, Emit, Store};

use super::{Answer, Failure, Performed, Work};

/// How long an event may wait in the outbox for others.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// Bytes in the outbox from which on it is sent, and the guest waits for it.
const FULL_BYTES: usize = 256 * 1024;
/// What an event costs in memory beside its data.
const EVENT_BYTES: usize = 128;

/// Events that a run has emitted and the store does not have yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    tenant: Arc<str>,
    run_id: RunId,
    events: RefCell<Vec<Emit>>,
    bytes: Cell<usize>,
    /// Whether the store knows the run.
    open: Cell<bool>,
    /// What was sent last, where that is not known to be committed.
    sent: RefCell<Option<Commit>>,
}

impl Outbox {
    /// Empty, of a run that the store does not know.
    pub(crate) fn new(tenant: &Arc<str>, run_id: RunId) -> Outbox {
        Outbox {
            tenant: Arc::clone(tenant),
            run_id,
            events: RefCell::default(),
            bytes: Cell::default(),
            open: Cell::default(),
            sent: RefCell::default(),
        }
    }

    /// The store knows the run: from now on its events can be sent.
    pub(crate) fn open(&self) {
        self.open.set(true);
    }

    /// Whether something waits.
    pub(crate) fn waits(&self) -> bool {
        self.open.get() && !self.events.borrow().is_empty()
    }

    /// Everything that was not sent, for the end of the run.
    pub(crate) fn take(&self) -> Vec<Emit> {
        self.bytes.set(0);
        self.events.take()
    }

    fn put(&self, event: Emit) -> bool {
        let bytes = self.bytes.get() + event.data.len() + EVENT_BYTES;
        self.bytes.set(bytes);
        self.events.borrow_mut().push(event);
        bytes < FULL_BYTES
    }

    /// Sends what waits, unless what was sent before is still on its way: then there is trouble, and it must not grow.
    pub(super) fn flush(&self, store: &Store) {
        if !self.waits() {
            return;
        }
        let on_its_way = self.sent.borrow_mut().as_mut().is_some_and(|sent| {
            let mut context = Context::from_waker(Waker::noop());
            matches!(std::pin::Pin::new(sent).poll(&mut context), Poll::Pending)
        });
        if !on_its_way {
            *self.sent.borrow_mut() = Some(self.send(store));
        }
    }

    /// Sends what waits, whatever else is on its way. Batches are committed in their order.
    pub(crate) fn send(&self, store: &Store) -> Commit {
        self.sent.take();
        // Acknowledged events must not be lost to a full disk while the run lives on.
        store.submit(Batch::emits(&self.tenant, self.run_id, self.take()).until_committed())
    }
}

/// Emits: answered at once, or, where the outbox is full, when it has been emptied.
pub(super) fn perform(
    permit: &EmitPermit,
    at: u64,
    outbox: &Outbox,
    make_room: &dyn Fn() -> Option<Commit>,
) -> Result<Performed, Work> {
    let Some(data) = data(permit) else {
        return Ok(Err(Failure::Failed(Refusal::Unavailable)));
    };
    let done = || Answer::plain(Reply::Done);
    if outbox.put(Emit { at, data }) {
        return Ok(Ok(done()));
    }
    match make_room() {
        None => Ok(Ok(done())),
        Some(commit) => Err(Box::pin(async move {
            match commit.await {
                Ok(_) => Ok(done()),
                Err(error) => {
                    tracing::error!(%error, "events could not be stored");
                    Err(Failure::Failed(Refusal::Unavailable))
                }
            }
        })),
    }
}

/// The CloudEvent's data.
fn data(permit: &EmitPermit) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Data<'a> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
    }
    let text = std::str::from_utf8(permit.data()).ok();
    let data_base64 = if text.is_some() { None } else { Some(BASE64.encode(permit.data())) };
    // Texts under fixed keys have no way not to be JSON.
    serde_json::to_vec(&Data { event: permit.event(), data: text, data_base64 }).map(Bytes::from).ok()
}
