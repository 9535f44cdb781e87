//! The manifest index: which module an AST hash, a digest or a CID means, and where its file lies.
//!
//! Watched by looking: before an answer, folders that were last looked at longer ago than `recheck` are looked at
//! again, and only files whose stamp changed are read. Inotify would answer a little sooner, but it needs a watch
//! for each folder (which may not exist yet), sees nothing on network and overlay mounts, and can overflow; a look
//! is a few `stat` calls, and none at all while nobody asks.
//!
//! So a changed entry counts after `recheck`, and a new one at once: nothing is said not to be listed before a look that
//! began after the question.

mod index;
mod parse;
mod scan;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

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
    max_file: u64,
    /// Then there is nothing to look at.
    no_folders: bool,
    /// Somebody looks ahead.
    ahead: AtomicBool,
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
        let no_folders = folders.is_empty();
        let (turn, scan) = (tokio::sync::Mutex::default(), Mutex::new(Scan::new(folders)));
        Self {
            inner: Arc::new(Inner {
                recheck,
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

    async fn look_after(self: &Arc<Self>, asked: Instant) -> Arc<Index> {
        if self.no_folders {
            return Arc::default();
        }
        let _turn = self.turn.lock().await;
        // Somebody else may have looked while we waited.
        if let Some(index) = self.since(asked) {
            return index;
        }
        let last = self.seen.lock().at;
        if let Some(next) = last.and_then(|at| at.checked_add(BETWEEN_LOOKS)) {
            tokio::time::sleep_until(next.into()).await;
        }
        let inner = self.clone();
        // If the look dies, the last view stands.
        let _ = tokio::task::spawn_blocking(move || inner.look_now()).await;
        self.seen.lock().index.clone()
    }

    /// A view not older than `recheck`, on a thread that may wait for a look.
    fn view(&self) -> Arc<Index> {
        if let Some((index, _)) = self.young() {
            return index;
        }
        let _turn = self.turn.blocking_lock();
        if let Some((index, _)) = self.young() {
            return index;
        }
        self.look_now();
        self.seen.lock().index.clone()
    }

    fn look_now(&self) {
        let at = Instant::now();
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

    fn find(&self, want: &Want) -> Result<Found, Miss> {
        let index = self.inner.view();
        if index.places(want).is_empty() {
            return Err(Miss::Unlisted(index.not_listed()));
        }
        self.inner.read(&index, want)
    }
}
