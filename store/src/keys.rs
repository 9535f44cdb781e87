//! Idempotency keys in memory: who may begin a run under a key. The table of keys is the memory across restarts; here
//! stands what is being decided now, what was decided lately, and a filter that spares a fresh key the look into the
//! table. No SQL.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use void_api::RunId;

use crate::bloom::Bloom;

/// How long a key is kept, in milliseconds: 24 hours.
pub const KEY_LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;

const SHARDS: usize = 16;
/// Decided keys remembered in each shard; older ones are found in the table.
const REMEMBERED: usize = 4_096;

/// The digest of a request without its key.
pub type Fingerprint = [u8; 32];

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) run_id: RunId,
    pub(crate) expires_at: u64,
}

/// The answer to a request with an idempotency key.
#[derive(Debug)]
#[must_use]
pub enum Reserve {
    /// The first request with this key: begin the run, and give the reservation to its [`crate::Accept`].
    New(Reservation),
    /// The same request came before.
    Seen {
        /// Its run.
        run_id: RunId,
    },
    /// Another request came before with this key.
    Mismatch {
        /// Its run.
        run_id: RunId,
    },
}

impl Known {
    pub(crate) fn judge(&self, fingerprint: &Fingerprint) -> Reserve {
        let run_id = self.run_id;
        if self.fingerprint == *fingerprint { Reserve::Seen { run_id } } else { Reserve::Mismatch { run_id } }
    }
}

#[derive(Debug)]
enum Slot {
    /// Someone holds the reservation; the others wait for what becomes of it.
    Claimed(Vec<oneshot::Sender<()>>),
    Known(Known),
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<Box<str>, Slot>,
    /// Decided keys, oldest first.
    order: VecDeque<Box<str>>,
}

/// All keys known in memory.
#[derive(Debug)]
pub(crate) struct Keys {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    filter: Bloom,
}

/// The first look at a key.
pub(crate) enum Claim {
    /// Nobody holds it here; `check` says that the table must be asked.
    Mine { reservation: Reservation, check: bool },
    /// Decided.
    Known(Known),
    /// Being decided: ask again when this resolves, in whatever way.
    Wait(oneshot::Receiver<()>),
}

impl Keys {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            filter: Bloom::new(now, KEY_LIFETIME_MS),
        }
    }

    /// A key of the table, read while the filter is being filled.
    pub(crate) fn learn(&self, tenant: &str, key: &str) {
        self.filter.insert(self.hasher.hash_one(name(tenant, key).as_ref()));
    }

    /// All keys of the table have been learned: from now on the filter's "no" is believed.
    pub(crate) fn learned(&self) {
        self.filter.complete();
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 60) as usize % SHARDS]
    }

    pub(crate) fn claim(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        key: &str,
        fingerprint: Fingerprint,
        run_id: RunId,
        now: u64,
    ) -> Claim {
        let name = name(tenant, key);
        let hash = self.hasher.hash_one(name.as_ref());
        let mut shard = self.shard(hash).lock();
        match shard.slots.entry(name.clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Claimed(waiters) => {
                    let (tell, told) = oneshot::channel();
                    waiters.push(tell);
                    return Claim::Wait(told);
                }
                Slot::Known(known) if known.expires_at > now => return Claim::Known(*known),
                Slot::Known(_) => {
                    slot.insert(Slot::Claimed(Vec::new()));
                }
            },
            Entry::Vacant(slot) => {
                slot.insert(Slot::Claimed(Vec::new()));
            }
        }
        drop(shard);
        let known = Known { fingerprint, run_id, expires_at: now.saturating_add(KEY_LIFETIME_MS) };
        let reservation = Reservation {
            keys: Arc::clone(self),
            tenant: Arc::clone(tenant),
            key: key.into(),
            name,
            hash,
            known,
            now,
            open: true,
        };
        Claim::Mine { reservation, check: self.filter.may_contain(hash, now) }
    }

    /// Ends a claim: with what is known now, or with nothing.
    fn settle(&self, name: &str, hash: u64, known: Option<Known>) {
        let mut shard = self.shard(hash).lock();
        let waiters = match shard.slots.remove(name) {
            Some(Slot::Claimed(waiters)) => waiters,
            Some(Slot::Known(_)) | None => Vec::new(),
        };
        if let Some(known) = known {
            // The filter first: once the slot is forgotten, the filter must lead to the table.
            self.filter.insert(hash);
            shard.slots.insert(name.into(), Slot::Known(known));
            shard.order.push_back(name.into());
            while shard.order.len() > REMEMBERED {
                let Some(oldest) = shard.order.pop_front() else { break };
                if let Some(Slot::Known(_)) = shard.slots.get(&oldest) {
                    shard.slots.remove(&oldest);
                }
            }
        }
        drop(shard);
        for waiter in waiters {
            let _ = waiter.send(());
        }
    }
}

/// Tenants are words, so the separator cannot stand in one.
fn name(tenant: &str, key: &str) -> Box<str> {
    let mut name = String::with_capacity(tenant.len() + 1 + key.len());
    name.push_str(tenant);
    name.push('\0');
    name.push_str(key);
    name.into_boxed_str()
}

/// The right to begin the one run of a key. Dropped before its run is committed, it frees the key for the next request.
#[derive(Debug)]
pub struct Reservation {
    keys: Arc<Keys>,
    tenant: Arc<str>,
    key: Box<str>,
    name: Box<str>,
    hash: u64,
    known: Known,
    now: u64,
    open: bool,
}

impl Reservation {
    /// The run that the key was reserved for.
    #[must_use]
    pub const fn run_id(&self) -> RunId {
        self.known.run_id
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    pub(crate) const fn known(&self) -> &Known {
        &self.known
    }

    /// The time of the reservation, Unix milliseconds.
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    /// The run is in the database.
    pub(crate) fn confirm(mut self) {
        self.open = false;
        self.keys.settle(&self.name, self.hash, Some(self.known));
    }

    /// The table knew the key.
    pub(crate) fn superseded(mut self, known: Known) {
        self.open = false;
        self.keys.settle(&self.name, self.hash, Some(known));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open {
            self.keys.settle(&self.name, self.hash, None);
        }
    }
}
