//! Looking at the manifest folders: which manifests there are, and which have changed since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::index::{Index, Listed};
use super::parse::{self, Manifest};
use crate::files::{self, Trouble};

const FILE: &str = "manifest.json";
/// Folders one level below a manifest folder that are looked into.
const MAX_BELOW: usize = 1024;
/// A file written this shortly before it was read may have been written again without a change of its stamp: the
/// clock behind the stamps is coarse. Where that clock is wrong, or a time was set, the file counts as written when its stamp
/// was first seen.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

struct Known {
    label: String,
    /// `None` where there was no file to read.
    stamp: Option<Seen>,
    read: Result<Arc<Manifest>, String>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    stamp: Stamp,
    /// When it was first seen like this.
    first: Instant,
    /// While it is not, the file cannot be trusted to be as it was read, so that it is read again.
    settled: bool,
}

impl Seen {
    /// Read between `from` and `to`, after it was seen as in `before`.
    fn of(metadata: &Metadata, [from, to]: [Instant; 2], before: Option<&Known>) -> Self {
        let stamp = Stamp::of(metadata);
        let first = before
            .and_then(|known| known.stamp)
            .filter(|seen| seen.stamp == stamp)
            .map_or(to, |seen| seen.first);
        // A file may be given the time of its original when it is written, so that time alone says nothing.
        let written = [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())];
        let settled = written.into_iter().all(long_ago) || from.saturating_duration_since(first) > UNSETTLED;
        Self { stamp, first, settled }
    }
}

fn long_ago((seconds, nanoseconds): (i64, i64)) -> bool {
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
        // Before 1970.
        return true;
    };
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::new(seconds, nanoseconds))
        .and_then(|written| SystemTime::now().duration_since(written).ok())
        .is_some_and(|age| age > UNSETTLED)
}

/// The folders, and what was seen in them.
pub(super) struct Scan {
    /// Each with the name it has in answers.
    folders: Vec<(PathBuf, String)>,
    known: BTreeMap<PathBuf, Known>,
    /// Folders that are not looked into, as the log says already.
    told: BTreeSet<PathBuf>,
}

impl Scan {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        let mut named: Vec<(PathBuf, String)> = Vec::new();
        for (number, folder) in folders.into_iter().enumerate() {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            let mut name = name.unwrap_or_else(|| ".".to_owned());
            if named.iter().any(|(_, other)| *other == name) {
                // Two folders of one name: their place in the setting tells them apart, not their paths.
                name = format!("{name}[{}]", number + 1);
            }
            named.push((folder, name));
        }
        Self { folders: named, known: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// Looks at all folders; `clock` says what the time is. Returns a new index if anything changed.
    pub(super) fn look(&mut self, clock: impl Fn() -> Instant) -> Option<Index> {
        let mut changed = false;
        let mut seen = BTreeMap::new();
        for (folder, label) in self.candidates() {
            let before = self.known.remove(&folder);
            let (known, fresh) = look_at(&folder, label, before, &clock);
            changed |= fresh;
            if let Some(known) = known {
                seen.insert(folder, known);
            }
        }
        // What is left was not seen this time.
        changed |= !self.known.is_empty();
        self.known = seen;
        changed.then(|| self.index())
    }

    /// The manifest folders and the folders in them, in a fixed order.
    fn candidates(&mut self) -> Vec<(PathBuf, String)> {
        let mut all = Vec::new();
        let mut passed_over = BTreeSet::new();
        for (folder, label) in &self.folders {
            all.push((folder.clone(), format!("{label}/{FILE}")));
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut below = Vec::new();
            for entry in entries {
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    below.push(entry.file_name());
                } else if kind.is_symlink() && entry.path().is_dir() {
                    // It may lead out, so it is no folder here.
                    if !self.told.contains(&entry.path()) {
                        tracing::warn!(folder = %entry.path().display(), "a link to a folder is not looked into for manifests: name its target in FNPM_MANIFEST_DIRS");
                    }
                    passed_over.insert(entry.path());
                }
            }
            below.sort_unstable();
            if below.len() > MAX_BELOW {
                if !self.told.contains(folder) {
                    tracing::warn!(folder = %folder.display(), "more than {MAX_BELOW} folders here: the rest is not looked into");
                }
                passed_over.insert(folder.clone());
                below.truncate(MAX_BELOW);
            }
            for name in below {
                all.push((folder.join(&name), format!("{label}/{}/{FILE}", name.to_string_lossy())));
            }
        }
        self.told = passed_over;
        all
    }

    fn index(&self) -> Index {
        let listed = self.known.iter().map(|(folder, known)| Listed {
            folder,
            label: &known.label,
            read: known.read.as_deref().map_err(String::as_str),
        });
        Index::build(listed)
    }
}

/// The manifest in one folder, and whether it differs from `before`.
fn look_at(
    folder: &Path,
    label: String,
    before: Option<Known>,
    clock: impl Fn() -> Instant,
) -> (Option<Known>, bool) {
    let stamp = match files::open_beneath(folder, Path::new(FILE)) {
        Ok((_, metadata)) => Stamp::of(&metadata),
        Err(Trouble::Absent) => return (None, before.is_some()),
        Err(trouble) => return refused(label, trouble, before),
    };
    let known = before.as_ref().and_then(|known| known.stamp);
    if known.is_some_and(|seen| seen.settled && seen.stamp == stamp) {
        return (before, false);
    }
    let from = clock();
    let (text, metadata) = match files::read_whole(folder, Path::new(FILE), parse::MAX_BYTES) {
        Ok(read) => read,
        Err(Trouble::Absent) => return (None, before.is_some()),
        Err(trouble) => return refused(label, trouble, before),
    };
    let stamp = Some(Seen::of(&metadata, [from, clock()], before.as_ref()));
    let read = parse::parse(&text).map(Arc::new);
    if before.as_ref().is_some_and(|known| known.read == read) {
        return (Some(Known { label, stamp, read }), false);
    }
    match &read {
        Ok(manifest) => {
            tracing::info!(folder = %folder.display(), genes = manifest.genes.len(), "manifest read");
            for trouble in &manifest.troubles {
                tracing::warn!(folder = %folder.display(), "manifest: {trouble}");
            }
        }
        Err(why) => tracing::warn!(folder = %folder.display(), "manifest {why}"),
    }
    (Some(Known { label, stamp, read }), true)
}

fn refused(label: String, trouble: Trouble, before: Option<Known>) -> (Option<Known>, bool) {
    let why = trouble.said();
    let told = before.is_some_and(|known| known.read.as_ref().is_err_and(|old| *old == why));
    if !told {
        tracing::warn!(manifest = label, "manifest {why}");
    }
    (Some(Known { label, stamp: None, read: Err(why) }), !told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_from_the_future_is_read_again_for_two_seconds_and_whenever_it_is_written() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join(FILE);
        let future = SystemTime::now() + Duration::from_secs(86_400);
        let write = |name: &str| {
            let zeros = "0".repeat(64);
            let text = format!(r#"{{"genes":[{{"name":"{name}","sha256":"{zeros}"}}]}}"#);
            std::fs::write(&path, text).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(future).unwrap();
        };
        let mut scan = Scan::new(vec![top.path().to_owned()]);
        let begun = Instant::now();
        let mut look = |seconds: f64| {
            let changed = scan.look(|| begun + Duration::from_secs_f64(seconds)).is_some();
            (changed, scan.known[top.path()].stamp.unwrap().settled)
        };
        write("a");
        assert_eq!(look(0.0), (true, false));
        assert_eq!(look(1.9), (false, false), "to be read again: it may have been written since");
        assert_eq!(look(2.1), (false, true), "whatever was written, its stamp would differ by now");
        write("b");
        assert_eq!(look(2.2), (true, false), "its size and the time it was given are the same");
        assert_eq!(look(4.3), (false, true));
    }
}
