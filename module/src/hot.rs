//! Verified modules in memory, bounded by bytes; the least recently used goes first.
//!
//! Memory is not verified again: what is in here came through `verify.rs`, and nothing can write to it since.
//! Reading takes the shared side of a lock and one map look-up, so that lanes do not wait for each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::answer::SourceKind;
use crate::buffer::room_for;
use crate::supply::Module;
use crate::verify::Digest;

/// Known roots of DAGs are few; past this many they are forgotten and learnt anew.
const MAX_ROOTS: usize = 16_384;

#[derive(Debug)]
struct Entry {
    module: Arc<Module>,
    /// Tenants that uploaded it; empty and unread when a source that all share had it.
    uploaders: Vec<Box<str>>,
    shared: bool,
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<Digest, Entry>,
    bytes: u64,
    /// Digest of a DAG's root block → digest of the file's bytes. A fact for ever, once walked.
    roots: HashMap<Digest, Digest>,
}

/// What an entry counts for: the memory for its bytes and, so that tiny modules are bounded in number, what holds them.
fn cost(module: &Module) -> u64 {
    room_for(module.bytes.len()) as u64 + 1024
}

/// The hot cache.
#[derive(Debug)]
pub(crate) struct Hot {
    shelf: RwLock<Shelf>,
    clock: AtomicU64,
    max_bytes: u64,
}

impl Hot {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { shelf: RwLock::default(), clock: AtomicU64::new(0), max_bytes }
    }

    /// The module whose bytes have this digest, if this tenant may see it.
    pub(crate) fn get(&self, tenant: &str, digest: &Digest) -> Option<Arc<Module>> {
        let shelf = self.shelf.read();
        let entry = shelf.entries.get(digest)?;
        if !entry.shared && !entry.uploaders.iter().any(|uploader| **uploader == *tenant) {
            return None;
        }
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(entry.module.clone())
    }

    /// The digest of the bytes of the file under this root block, where it is known.
    pub(crate) fn file_of_root(&self, root: &Digest) -> Option<Digest> {
        self.shelf.read().roots.get(root).copied()
    }

    pub(crate) fn learn_root(&self, root: Digest, file: Digest) {
        let mut shelf = self.shelf.write();
        if shelf.roots.len() >= MAX_ROOTS {
            shelf.roots.clear();
        }
        shelf.roots.insert(root, file);
    }

    /// Keeps a module, seen by all, or by `tenant` alone if it is an upload. A module that was there already stays
    /// the one in memory and is returned, so that its bytes are held once.
    pub(crate) fn keep(&self, tenant: &str, module: Arc<Module>) -> Arc<Module> {
        let size = cost(&module);
        if size > self.max_bytes {
            return module;
        }
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let upload = module.source == SourceKind::Uploads;
        let mut shelf = self.shelf.write();
        if let Some(entry) = shelf.entries.get_mut(&module.sha256) {
            if !upload && !entry.shared {
                entry.shared = true;
                entry.uploaders.clear();
                // Tell where everybody can find it, not that somebody uploaded it.
                entry.module = module;
            } else if upload && !entry.shared && !entry.uploaders.iter().any(|u| **u == *tenant) {
                entry.uploaders.push(tenant.into());
            }
            entry.used.store(now, Ordering::Relaxed);
            return entry.module.clone();
        }
        let uploaders = if upload { vec![tenant.into()] } else { Vec::new() };
        let entry = Entry { module: module.clone(), uploaders, shared: !upload, used: AtomicU64::new(now) };
        shelf.entries.insert(module.sha256, entry);
        shelf.bytes += size;
        while shelf.bytes > self.max_bytes {
            // A scan: it happens when a module comes in, and there are at most some thousands.
            let oldest = shelf.entries.iter().min_by_key(|(_, e)| e.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { break };
            if let Some(entry) = shelf.entries.remove(&oldest) {
                shelf.bytes = shelf.bytes.saturating_sub(cost(&entry.module));
            }
        }
        module
    }

    /// Modules and bytes held.
    pub(crate) fn size(&self) -> (u64, u64) {
        let shelf = self.shelf.read();
        (shelf.entries.len() as u64, shelf.bytes)
    }
}
