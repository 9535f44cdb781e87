//! Guests' values in memory, in front of the database: a guest that reads what it or another run read or wrote lately
//! waits for no disk and no thread.
//!
//! The writer is the one who changes values, and it says so: before its transaction it takes the keys out and closes them
//! to readers who look into the database meanwhile, and afterwards it puts in what was committed. So no reader ever sees
//! an older value than another one saw before it.
//!
//! ```text
//! reader: known? ── yes ─▶ value          writer: take out, close ─ BEGIN … COMMIT ─ put in, open
//!           └ no ─▶ remember the number of writes ─ read the database ─ put in, if nothing was written meanwhile
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::change::{Change, KvKey};
use crate::committer::Effect;
use crate::queue::Job;

const SHARDS: usize = 64;
/// Bytes of one shard: 32 MiB for all.
const SHARD_BYTES: usize = 512 * 1024;
/// What an entry costs beside its texts.
const ENTRY_BYTES: usize = 160;

#[derive(Debug, Default)]
struct Shard {
    /// Used since the hand came by, and the value, if there is one.
    entries: HashMap<KvKey, (bool, Option<Bytes>)>,
    bytes: usize,
    /// Batches of writes that have begun, and those of them that are under way.
    begun: u64,
    under_way: u32,
}

/// What is known.
#[derive(Debug)]
pub(crate) struct Values {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Default for Values {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Values {
    fn shard(&self, key: &KvKey) -> MutexGuard<'_, Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        self.shards[hash].lock()
    }

    pub(crate) fn known(&self, key: &KvKey) -> Option<Option<Bytes>> {
        let mut shard = self.shard(key);
        let (used, value) = shard.entries.get_mut(key)?;
        *used = true;
        Some(value.clone())
    }

    /// Reads what is not known, and remembers it unless something was written meanwhile.
    pub(crate) fn read_through<E>(
        &self,
        key: KvKey,
        read: impl FnOnce(&KvKey) -> Result<Option<Bytes>, E>,
    ) -> Result<Option<Bytes>, E> {
        let before = self.shard(&key).begun;
        let value = read(&key)?;
        let mut shard = self.shard(&key);
        if shard.under_way == 0 && shard.begun == before {
            shard.put(key, value.clone());
        }
        Ok(value)
    }

    /// The writer is about to write these. What is returned says how it went; dropped, it went wrong.
    pub(crate) fn writing(&self, jobs: &[Job]) -> Writing<'_> {
        let keys: Vec<KvKey> = changes(jobs).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            let mut shard = self.shard(key);
            shard.begun += 1;
            shard.under_way += 1;
            shard.remove(key);
        }
        Writing { values: self, keys }
    }
}

fn changes(jobs: &[Job]) -> impl Iterator<Item = (&KvKey, Option<&Bytes>)> {
    jobs.iter().flat_map(|job| &job.batch.changes).filter_map(|change| match change {
        Change::KvSet { key, value, .. } => Some((key, Some(value))),
        Change::KvDelete { key } => Some((key, None)),
        Change::Accept(_)
        | Change::Started { .. }
        | Change::HeldBack(_)
        | Change::Ended(_)
        | Change::Emit { .. } => None,
    })
}

/// A group of writes under way.
pub(crate) struct Writing<'a> {
    values: &'a Values,
    keys: Vec<KvKey>,
}

impl Writing<'_> {
    /// They were committed, except those that were refused.
    pub(crate) fn done(self, jobs: &[Job], effects: &[Effect]) {
        for (job, effect) in jobs.iter().zip(effects) {
            if effect.is_ok() {
                for (key, value) in changes(std::slice::from_ref(job)) {
                    self.values.shard(key).put(key.clone(), value.cloned());
                }
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        for key in &self.keys {
            self.values.shard(key).under_way -= 1;
        }
    }
}

impl Shard {
    fn put(&mut self, key: KvKey, value: Option<Bytes>) {
        self.remove(&key);
        let weight = weight(&key, value.as_ref());
        if weight > SHARD_BYTES / 2 {
            return;
        }
        if self.bytes + weight > SHARD_BYTES {
            self.make_room();
        }
        self.bytes += weight;
        // A copy of its own: a slice would keep alive what it was cut from.
        self.entries.insert(key, (false, value.map(|value| Bytes::copy_from_slice(&value))));
    }

    /// Forgets what was not used since the last time, or half of it all where everything was.
    fn make_room(&mut self) {
        let mut kept = 0;
        self.entries.retain(|key, (used, value)| {
            let weight = weight(key, value.as_ref());
            let keep = std::mem::take(used) && kept + weight <= SHARD_BYTES / 2;
            kept += if keep { weight } else { 0 };
            keep
        });
        self.bytes = kept;
    }

    fn remove(&mut self, key: &KvKey) {
        if let Some((_, value)) = self.entries.remove(key) {
            self.bytes -= weight(key, value.as_ref());
        }
    }
}

fn weight(key: &KvKey, value: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.space.len() + key.key.len() + value.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;
    use crate::change::{Batch, KvLimits};
    use crate::error::WriteError;

    fn key(name: &str) -> KvKey {
        KvKey { tenant: Arc::from("t"), space: String::new(), key: name.into() }
    }

    fn set(name: &str, value: &str) -> Job {
        let limits = KvLimits { max_keys: 9, max_value_bytes: 9 };
        let value = Bytes::copy_from_slice(value.as_bytes());
        Job::new(Batch::from(Change::KvSet { key: key(name), value, limits })).0
    }

    fn read(values: &Values, name: &str, value: &str) -> Option<Bytes> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        values.read_through(key(name), |_| Ok::<_, Infallible>(Some(value))).unwrap()
    }

    #[test]
    fn a_reader_that_a_write_overtook_leaves_nothing_behind() {
        let values = Values::default();
        let jobs = [set("k", "new")];
        let old = values.read_through(key("k"), |_| {
            values.writing(&jobs).done(&jobs, &[Ok(0)]);
            Ok::<_, Infallible>(Some(Bytes::from_static(b"old")))
        });
        assert_eq!(old.unwrap().as_deref(), Some(&b"old"[..]));
        assert_eq!(values.known(&key("k")), Some(Some(Bytes::from_static(b"new"))));
    }

    #[test]
    fn nothing_is_known_of_a_key_while_it_is_written() {
        let values = Values::default();
        read(&values, "k", "old");
        let jobs = [set("k", "new")];
        let writing = values.writing(&jobs);
        assert_eq!(values.known(&key("k")), None);
        read(&values, "k", "either");
        assert_eq!(values.known(&key("k")), None, "whether it is the new one cannot be told");
        drop(writing);
        read(&values, "k", "old");
        assert!(values.known(&key("k")).is_some());
        values.writing(&jobs).done(&jobs, &[Err(WriteError::KvKeys(9))]);
        assert_eq!(values.known(&key("k")), None, "a refused write puts nothing in");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let values = Values::default();
        let long = "v".repeat(4096);
        read(&values, "used", "x");
        for n in 0..SHARDS * 400 {
            read(&values, &n.to_string(), &long);
            assert!(values.known(&key("used")).is_some(), "forgotten after {n}");
        }
        let (mut bytes, mut counted) = (0, 0);
        for shard in &values.shards {
            let shard = shard.lock();
            bytes += shard.bytes;
            counted +=
                shard.entries.iter().map(|(key, (_, value))| weight(key, value.as_ref())).sum::<usize>();
        }
        assert_eq!(bytes, counted);
        assert!(bytes <= SHARDS * SHARD_BYTES, "{bytes}");
    }
}
