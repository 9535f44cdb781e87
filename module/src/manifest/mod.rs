//! The manifest index: which module an AST hash, a digest or a CID means, and where its file lies.
//!
//! Watched by looking: before an answer, folders that were last looked at longer ago than `recheck` are looked at
//! again, and only files whose stamp changed are read. Inotify would answer a little sooner, but it needs a watch
//! for each folder (which may not exist yet), sees nothing on network and overlay mounts, and can overflow; a look
//! is a few `stat` calls, and none at all while nobody asks.
//!
//! So a changed entry counts after `recheck`, and a new one at once: nothing is said not to be listed before a look that
//! began after the question. A folder that hangs holds that up for the fetch time-out; then what was seen last stands.

mod index;
mod parse;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use crate::answer::{Miss, SourceKind};
use crate::files::{self, Trouble};
use crate::source::{Found, Local, blocking};
use crate::unixfs;
use crate::verify::{Digest, sha256};
use crate::want::Want;

use index::Place;
pub(crate) use index::{AstClaim, Index};
use scan::Scan;

/// Between two looks because something is not listed lies this much, which bounds what misses cost. Who comes too early for
/// the next look waits for it, together with all others.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// The manifests, as last seen.
#[derive(Clone)]
pub(crate) struct Manifests {
    inner: Arc<Inner>,
}

struct Inner {
    recheck: Duration,
    /// The longest wait for a look: a folder on a network may hang.
    patience: Duration,
    max_file: u64,
    /// Then there is nothing to look at.
    no_folders: bool,
    /// Somebody looks ahead.
    ahead: AtomicBool,
    /// One look at a time, until it has ended; the others wait for it and use its result.
    turn: Arc<tokio::sync::Mutex<()>>,
    scan: Mutex<Scan>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When the look began that saw this.
    at: Option<Instant>,
    /// When the look began that has not ended.
    looking: Option<Instant>,
    index: Arc<Index>,
}

/// A look under way, until it has ended, however it does.
struct Look {
    inner: Arc<Inner>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.inner.seen.lock().looking = None;
    }
}

impl Manifests {
    /// `patience` is the longest that anybody waits for a look; then what was seen last stands.
    pub(crate) fn new(folders: Vec<PathBuf>, recheck: Duration, patience: Duration, max_file: u64) -> Self {
        let seen = Mutex::new(Seen { at: None, looking: None, index: Arc::default() });
        let no_folders = folders.is_empty();
        let (turn, scan) = (Arc::default(), Mutex::new(Scan::new(folders)));
        Self {
            inner: Arc::new(Inner {
                recheck,
                patience,
                max_file,
                no_folders,
                ahead: AtomicBool::new(false),
                turn,
                scan,
                seen,
            }),
        }
    }

    /// Where the AST hash points, and the index that says so. Runs on any thread.
    pub(crate) async fn ast(&self, on: &Handle, digest: &Digest) -> (Option<AstClaim>, Arc<Index>) {
        let asked = Instant::now();
        let mut index = match self.inner.young() {
            Some((index, age)) => {
                if age * 2 > self.inner.recheck && !self.inner.ahead.swap(true, Ordering::Relaxed) {
                    self.look_ahead(on, asked);
                }
                index
            }
            None => self.looked(on, asked).await,
        };
        if index.ast(digest).is_none() {
            index = self.looked(on, asked).await;
        }
        (index.ast(digest).cloned(), index)
    }

    /// Looks before the view is too old, so that who asks all the time never waits for it.
    fn look_ahead(&self, on: &Handle, asked: Instant) {
        let inner = self.inner.clone();
        on.spawn(async move {
            inner.look_after(asked).await;
            inner.ahead.store(false, Ordering::Relaxed);
        });
    }

    /// A view from after `asked`.
    async fn looked(&self, on: &Handle, asked: Instant) -> Arc<Index> {
        // On the supply's threads: a new blocking thread inherits the CPUs of the thread that asks for it, and the
        // callers' are pinned.
        let inner = self.inner.clone();
        match on.spawn(async move { inner.look_after(asked).await }).await {
            Ok(index) => index,
            Err(_) => self.inner.seen.lock().index.clone(),
        }
    }

    /// What is listed since `asked` and was not when [`Local::find`] was called then. `None` where it still is not. Waits
    /// for a look; on the supply's runtime.
    pub(crate) async fn find_new(&self, want: &Want, asked: Instant) -> Option<Result<Found, Miss>> {
        let index = self.inner.look_after(asked).await;
        if index.places(want).is_empty() {
            return None;
        }
        let (inner, want) = (self.inner.clone(), *want);
        Some(blocking(move || inner.read(&index, &want)).await)
    }
}

impl Inner {
    fn young(&self) -> Option<(Arc<Index>, Duration)> {
        let seen = self.seen.lock();
        let age = seen.at?.elapsed();
        (age < self.recheck).then(|| (seen.index.clone(), age))
    }

    fn since(&self, asked: Instant) -> Option<Arc<Index>> {
        let seen = self.seen.lock();
        seen.at.is_some_and(|at| at >= asked).then(|| seen.index.clone())
    }

    /// A view from after `asked`, or the last one where that takes too long.
    async fn look_after(self: &Arc<Self>, asked: Instant) -> Arc<Index> {
        if self.no_folders {
            return Arc::default();
        }
        // All who wait for one look that hangs wait for as long as one of them would.
        let waited = self.seen.lock().looking.map_or(Duration::ZERO, |begun| begun.elapsed());
        let patience = self.patience.saturating_sub(waited);
        match tokio::time::timeout(patience, self.look_in_turn(asked)).await {
            Ok(index) => index,
            Err(_) => {
                if !patience.is_zero() {
                    tracing::warn!("the manifest folders hang: what was seen last stands");
                }
                self.seen.lock().index.clone()
            }
        }
    }

    async fn look_in_turn(self: &Arc<Self>, asked: Instant) -> Arc<Index> {
        let turn = self.turn.clone().lock_owned().await;
        // Somebody else may have looked while we waited.
        if let Some(index) = self.since(asked) {
            return index;
        }
        let last = self.seen.lock().at;
        if let Some(next) = last.and_then(|at| at.checked_add(BETWEEN_LOOKS)) {
            tokio::time::sleep_until(next.into()).await;
        }
        // If the look dies, the last view stands. Who waits may give up; the look keeps its turn, so that one that hangs
        // holds one thread and no more.
        let look = Look { inner: self.clone(), _turn: turn };
        let _ = tokio::task::spawn_blocking(move || look.inner.look_now()).await;
        self.seen.lock().index.clone()
    }

    /// A view not older than `recheck`, on a thread that may wait for a look.
    fn view(self: &Arc<Self>, on: &Handle) -> Arc<Index> {
        if let Some((index, _)) = self.young() {
            return index;
        }
        let now = Instant::now();
        on.block_on(self.look_after(now.checked_sub(self.recheck).unwrap_or(now)))
    }

    fn look_now(&self) {
        let at = Instant::now();
        self.seen.lock().looking = Some(at);
        let changed = self.scan.lock().look(Instant::now);
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
            let mut troubles = Vec::new();
            for file in place.files(want) {
                match self.read_file(place.folder(), &file, want) {
                    Ok(Ok(mut found)) => {
                        found.place = Some(place.label().to_owned());
                        return Ok(found);
                    }
                    Ok(Err(why)) => return Err(Miss::Invalid(why)),
                    Err(Trouble::Absent) => {}
                    Err(trouble) => {
                        other_bytes |= matches!(trouble, Trouble::OtherBytes | Trouble::Incomparable);
                        troubles.push(format!("{} {}", file.display(), self.said(trouble, place, &file)));
                    }
                }
            }
            if troubles.is_empty() {
                troubles.push(format!("{} not there", place.sought()));
            }
            tried.push(format!("listed in {}, but beside it {}", place.label(), troubles.join(" and ")));
        }
        let said = tried.join(", and ");
        Err(if other_bytes { Miss::Lied(said) } else { Miss::Absent(said) })
    }

    fn read_file(&self, folder: &Path, file: &Path, want: &Want) -> Result<Result<Found, String>, Trouble> {
        match want {
            Want::Raw(digest) => {
                let read = files::read_verified(folder, file, self.max_file, digest);
                read.map(|(module, _)| Ok(module.into()))
            }
            Want::Dag(..) => unixfs::from_file(want, folder, file, self.max_file).map(|(found, _)| found),
        }
    }

    /// What trouble with a file means. The manifest's word for its sha256 makes it no file of that CID: the CID decides what
    /// is run, and whoever means the bytes can say so.
    fn said(&self, trouble: Trouble, place: &Place, file: &Path) -> String {
        let stated = place.sha256().filter(|_| trouble == Trouble::Incomparable);
        let read = || files::read_whole(place.folder(), file, self.max_file);
        if stated.is_some_and(|stated| read().is_ok_and(|(bytes, _)| sha256(&bytes) == stated)) {
            return "has the sha256 that is listed, but cannot be compared with the CID, since it was cut in no usual way: \
                    name it by that sha256"
                .to_owned();
        }
        trouble.said()
    }
}

impl Local for Manifests {
    fn kind(&self) -> SourceKind {
        SourceKind::Manifest
    }

    fn name(&self) -> &str {
        "manifests"
    }

    fn find(&self, on: &Handle, want: &Want) -> Result<Found, Miss> {
        let index = self.inner.view(on);
        if index.places(want).is_empty() {
            return Err(Miss::Unlisted(index.not_listed()));
        }
        self.inner.read(&index, want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn a_look_that_hangs_holds_one_thread_and_nobody_beyond_their_patience() {
        const PATIENCE: Duration = Duration::from_secs(1);
        let top = tempfile::tempdir().unwrap();
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let folders = vec![top.path().to_owned()];
        let manifests = Manifests::new(folders, Duration::ZERO, PATIENCE, 100);
        let want = Want::Raw(sha256(b"module"));
        let find = || manifests.find(runtime.handle(), &want);
        let find_new = || runtime.block_on(manifests.find_new(&want, Instant::now()));
        assert!(matches!(find(), Err(Miss::Unlisted(_))));

        // A look that cannot have this goes on as little as one whose folder hangs.
        let hanging = manifests.inner.scan.lock();
        std::fs::write(top.path().join("add.wasm"), "module").unwrap();
        let text = format!(r#"{{"genes":[{{"name":"add","cid":"{want}"}}]}}"#);
        std::fs::write(top.path().join("manifest.json"), text).unwrap();
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(matches!(find(), Err(Miss::Unlisted(_))));
            assert!(find_new().is_none());
        }
        let waited = begun.elapsed();
        assert!(waited >= PATIENCE && waited < 3 * PATIENCE, "{waited:?} for all together");
        // One of the two threads is free.
        let other = async { tokio::time::timeout(PATIENCE * 10, blocking(|| Ok(()))).await };
        assert_eq!(runtime.block_on(other), Ok(Ok(())));

        drop(hanging);
        while manifests.inner.seen.lock().looking.is_some() {
            std::thread::yield_now();
        }
        assert!(find_new().is_some_and(|found| found.is_ok()));
        assert!(find().is_ok());
    }
}
