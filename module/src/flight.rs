//! One fetch for all who want the same module at the same time.
//!
//! The fetch runs on the supply's own threads, so it goes on when the request that started it is gone: the others
//! still wait for it, and what arrives is kept for the next.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
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

/// Takes the flight off the board however its task ends, a panic included.
struct Landing {
    flights: Arc<Flights>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.key);
    }
}

impl Flights {
    /// Joins the fetch of `key`, or starts it. `landed` looks once more for what a fetch that has just ended left;
    /// `None` from here means that the fetch died without an outcome.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        on: &Handle,
        key: Key,
        landed: impl FnOnce() -> Option<Arc<Module>>,
        fetch: impl FnOnce() -> F,
    ) -> Option<Outcome>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut seat = {
            let mut under_way = self.under_way.lock();
            if let Some(seat) = under_way.get(&key) {
                seat.clone()
            } else {
                // A fetch keeps its module before it leaves the board, so this look cannot miss it.
                if let Some(module) = landed() {
                    return Some(Ok(module));
                }
                let (tell, seat) = watch::channel(None);
                under_way.insert(key.clone(), seat.clone());
                let landing = Landing { flights: self.clone(), key };
                let fetch = fetch();
                on.spawn(async move {
                    let outcome = fetch.await;
                    drop(landing);
                    tell.send_replace(Some(outcome));
                });
                seat
            }
        };
        let outcome = seat.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}
