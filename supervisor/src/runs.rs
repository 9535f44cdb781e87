//! The runs that have not ended: where a record is looked up, waited for and cancelled while its run is alive.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use void_api::{RunId, RunRecord};

const SHARDS: usize = 64;

/// One run on its way.
#[derive(Debug)]
pub(crate) struct LiveRun {
    /// Whose it is.
    pub(crate) tenant: Arc<str>,
    /// Its record so far.
    pub(crate) record: Mutex<RunRecord>,
    end: watch::Sender<Option<Bytes>>,
    cancel: Notify,
}

impl LiveRun {
    /// A run that was just accepted.
    pub(crate) fn new(tenant: Arc<str>, record: RunRecord) -> Arc<LiveRun> {
        let (end, _) = watch::channel(None);
        Arc::new(LiveRun { tenant, record: Mutex::new(record), end, cancel: Notify::new() })
    }

    /// The record as it stands, as JSON: the final one where the run has ended.
    pub(crate) fn record_json(&self) -> Bytes {
        if let Some(ended) = self.end.borrow().as_ref() {
            return ended.clone();
        }
        // A record holds strings, numbers and maps with string keys: it has no way not to be JSON.
        serde_json::to_vec(&*self.record.lock()).map(Bytes::from).unwrap_or_default()
    }

    /// Waits for the end: the final record as JSON.
    pub(crate) async fn ended(&self) -> Bytes {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(record) => record.clone().unwrap_or_default(),
            // The sender is in self.
            Err(_) => self.record_json(),
        }
    }

    /// Asks for the run's end. It has effect once, wherever the run is.
    pub(crate) fn cancel(&self) {
        self.cancel.notify_one();
    }

    /// Waits until somebody asks for the run's end.
    pub(crate) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    /// Publishes the final record.
    pub(crate) fn publish(&self, record: Bytes) {
        self.end.send_replace(Some(record));
    }
}

/// All runs that have not ended.
#[derive(Debug)]
pub(crate) struct Runs {
    shards: Vec<Mutex<HashMap<RunId, Arc<LiveRun>>>>,
}

impl Runs {
    /// None yet.
    pub(crate) fn new() -> Runs {
        Runs { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, id: RunId) -> &Mutex<HashMap<RunId, Arc<LiveRun>>> {
        // Run numbers end in randomness.
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&id, &mut hasher);
        let index = std::hash::Hasher::finish(&hasher) as usize % SHARDS;
        &self.shards[index]
    }

    /// Adds a run.
    pub(crate) fn insert(&self, id: RunId, run: Arc<LiveRun>) {
        self.shard(id).lock().insert(id, run);
    }

    /// The run, where it is alive and `tenant`'s.
    pub(crate) fn get(&self, tenant: &str, id: RunId) -> Option<Arc<LiveRun>> {
        self.shard(id).lock().get(&id).filter(|run| *run.tenant == *tenant).cloned()
    }

    /// Takes a run out, when its final record can be found in the store.
    pub(crate) fn remove(&self, id: RunId) {
        self.shard(id).lock().remove(&id);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}
