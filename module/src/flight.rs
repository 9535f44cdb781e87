//! One fetch for all who want the same module at the same time.
//!
//! The fetch runs on the supply's own threads, so it goes on when the request that started it is gone: the others
//! still wait for it, and what arrives is kept for the next.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::ResolveError;
use crate::supply::Module;
use crate::want::Want;

pub(crate) type Outcome = Result<Arc<Module>, ResolveError>;

/// What makes two requests one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A tenant's own upload.
    Upload(Box<str>, Want),
    /// From the sources that all tenants share.
    Shared(Want),
    /// From these, for a tenant for whom more of them are asked than for who began the shared one.
    Own(Box<str>, Want),
}

/// `None` while it is under way.
type Seat = watch::Receiver<Option<Outcome>>;

/// The fetches under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<Key, Seat>>,
}

/// A fetch under way. However it ends, a panic included, it leaves the board, and those who wait are told.
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: Key,
    tell: watch::Sender<Option<Outcome>>,
    outcome: Option<Outcome>,
}

impl Flight {
    /// Ends it.
    pub(crate) fn land(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.key);
        if let Some(outcome) = self.outcome.take() {
            self.tell.send_replace(Some(outcome));
        }
    }
}

impl Flights {
    /// Joins the fetch of `key`, or has `start` start it. `landed` looks once more for what a fetch that has just ended
    /// left; `None` from here means that the fetch died without an outcome.
    pub(crate) async fn join(
        self: &Arc<Self>,
        key: Key,
        landed: impl FnOnce() -> Option<Arc<Module>>,
        start: impl FnOnce(Flight),
    ) -> Option<Outcome> {
        let (mut seat, flight) = {
            let mut under_way = self.under_way.lock();
            if let Some(seat) = under_way.get(&key) {
                (seat.clone(), None)
            } else {
                // A fetch keeps its module before it leaves the board, so this look cannot miss it.
                if let Some(module) = landed() {
                    return Some(Ok(module));
                }
                let (tell, seat) = watch::channel(None);
                under_way.insert(key.clone(), seat.clone());
                (seat, Some(Flight { flights: self.clone(), key, tell, outcome: None }))
            }
        };
        // Off the lock, which a flight that ends at once takes.
        if let Some(flight) = flight {
            start(flight);
        }
        let outcome = seat.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}
