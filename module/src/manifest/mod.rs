//! The manifest index: which module an AST hash, a digest or a CID means, and where its file lies.
//!
//! Watched by looking: before an answer, folders that were last looked at longer ago than `recheck` are looked at
//! again, and only files whose stamp changed are read. Inotify would answer a little sooner, but it needs a watch
//! for each folder (which may not exist yet), sees nothing on network and overlay mounts, and can overflow; a look
//! is a few `stat` calls, and none at all while nobody asks.

mod index;
mod parse;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::answer::{Miss, SourceKind};
use crate::files::{self, Trouble};
use crate::source::{Found, Local};
use crate::unixfs;
use crate::verify::Digest;
use crate::want::Want;

pub(crate) use index::{AstClaim, Index};
use scan::Scan;

/// After a look-up that found nothing the folders are looked at again even if the view is younger than `recheck`,
/// so that "write a manifest, run it" works at once. This much younger, to bound what misses can cost.
const RECHECK_MISS: Duration = Duration::from_millis(50);

/// The manifests, as last seen.
#[derive(Clone)]
pub(crate) struct Manifests {
    inner: Arc<Inner>,
}

struct Inner {
    recheck: Duration,
    max_file: u64,
    /// One look at a time; the others wait for it and use its result.
    turn: tokio::sync::Mutex<()>,
    scan: Mutex<Scan>,
    seen: Mutex<Seen>,
}

struct Seen {
    at: Option<Instant>,
    index: Arc<Index>,
}

impl Manifests {
    pub(crate) fn new(folders: Vec<PathBuf>, recheck: Duration, max_file: u64) -> Self {
        let seen = Mutex::new(Seen { at: None, index: Arc::default() });
        let (turn, scan) = (tokio::sync::Mutex::default(), Mutex::new(Scan::new(folders)));
        Self { inner: Arc::new(Inner { recheck, max_file, turn, scan, seen }) }
    }

    /// Where the AST hash points, and the index that says so. Runs on any thread.
    pub(crate) async fn ast(&self, on: &Handle, digest: &Digest) -> (Option<AstClaim>, Arc<Index>) {
        let index = self.current(on, self.inner.recheck).await;
        if let Some(claim) = index.ast(digest) {
            return (Some(claim.clone()), index);
        }
        let index = self.current(on, RECHECK_MISS).await;
        (index.ast(digest).cloned(), index)
    }

    async fn current(&self, on: &Handle, max_age: Duration) -> Arc<Index> {
        if let Some(index) = self.inner.young(max_age) {
            return index;
        }
        // On the supply's threads: a new blocking thread inherits the CPUs of the thread that asks for it, and the
        // callers' are pinned.
        let inner = self.inner.clone();
        match on.spawn(async move { inner.look(max_age).await }).await {
            Ok(index) => index,
            Err(_) => self.inner.seen.lock().index.clone(),
        }
    }
}

impl Inner {
    fn young(&self, max_age: Duration) -> Option<Arc<Index>> {
        let seen = self.seen.lock();
        seen.at.is_some_and(|at| at.elapsed() < max_age).then(|| seen.index.clone())
    }

    async fn look(self: &Arc<Self>, max_age: Duration) -> Arc<Index> {
        if let Some(index) = self.young(max_age) {
            return index;
        }
        let _turn = self.turn.lock().await;
        // Somebody else may have looked while we waited.
        if let Some(index) = self.young(max_age) {
            return index;
        }
        let inner = self.clone();
        // If the look dies, the last view stands.
        let _ = tokio::task::spawn_blocking(move || inner.look_now()).await;
        self.seen.lock().index.clone()
    }

    /// The same, on a thread that may wait.
    fn look_from_here(&self, max_age: Duration) -> Arc<Index> {
        if let Some(index) = self.young(max_age) {
            return index;
        }
        let _turn = self.turn.blocking_lock();
        if let Some(index) = self.young(max_age) {
            return index;
        }
        self.look_now();
        self.seen.lock().index.clone()
    }

    fn look_now(&self) {
        let at = Instant::now();
        let changed = self.scan.lock().look();
        let mut seen = self.seen.lock();
        if let Some(index) = changed {
            seen.index = Arc::new(index);
        }
        seen.at = Some(at);
    }

    fn read(&self, index: &Index, want: &Want) -> Result<Found, Miss> {
        let mut tried = Vec::new();
        let mut other_bytes = false;
        for place in index.places(want) {
            for file in place.files(want) {
                match self.read_file(place.folder(), &file, want) {
                    Ok(mut found) => {
                        found.place = Some(place.label().to_owned());
                        return Ok(found);
                    }
                    Err(trouble) => {
                        other_bytes |= trouble == Trouble::OtherBytes;
                        tried.push(format!("{} {}", file.display(), trouble.said()));
                    }
                }
            }
            let last = tried.pop().unwrap_or_default();
            tried.push(format!("{last} beside {}", place.label()));
        }
        let said = format!("listed, but {}", tried.join(", "));
        Err(if other_bytes { Miss::Lied(said) } else { Miss::Absent(said) })
    }

    fn read_file(&self, folder: &Path, file: &Path, want: &Want) -> Result<Found, Trouble> {
        match want {
            Want::Raw(digest) => {
                files::read_verified(folder, file, self.max_file, digest).map(|(module, _)| module.into())
            }
            Want::Dag(_) => {
                let (bytes, _) = files::read_whole(folder, file, unixfs::fetch_cap(self.max_file))?;
                let bytes = Bytes::from(bytes);
                if file.extension().is_some_and(|kind| kind == "car") {
                    return unixfs::from_car(want, bytes, self.max_file).map_err(|_| Trouble::OtherBytes);
                }
                if bytes.len() as u64 > self.max_file {
                    return Err(Trouble::TooLarge);
                }
                unixfs::from_bytes(want, &bytes).ok_or(Trouble::OtherBytes)
            }
        }
    }
}

impl Local for Manifests {
    fn kind(&self) -> SourceKind {
        SourceKind::Manifest
    }

    fn name(&self) -> &str {
        "manifests"
    }

    fn find(&self, want: &Want) -> Result<Found, Miss> {
        let mut index = self.inner.look_from_here(self.inner.recheck);
        if index.places(want).is_empty() {
            index = self.inner.look_from_here(RECHECK_MISS);
        }
        if index.places(want).is_empty() {
            return Err(Miss::Absent(index.not_listed()));
        }
        self.inner.read(&index, want)
    }
}
