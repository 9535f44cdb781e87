//! Looking at the manifest folders: which manifests there are, and which have changed since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::index::{Index, Listed};
use super::parse::{self, Manifest};
use crate::files::{self, Trouble};

const FILE: &str = "manifest.json";
/// Folders one level below a manifest folder that are looked into.
const MAX_BELOW: usize = 1024;
/// A file written this shortly before it was read may have been written again without a change of its stamp: the
/// clock behind the stamps is coarse.
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
    /// `None` while the file cannot be trusted to be as it was read, so that it is read again.
    stamp: Option<Stamp>,
    read: Result<Arc<Manifest>, String>,
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

    /// Looks at all folders. Returns a new index if anything changed.
    pub(super) fn look(&mut self) -> Option<Index> {
        let mut changed = false;
        let mut seen = BTreeMap::new();
        for (folder, label) in self.candidates() {
            let before = self.known.remove(&folder);
            let (now, fresh) = look_at(&folder, label, before);
            changed |= fresh;
            if let Some(now) = now {
                seen.insert(folder, now);
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
fn look_at(folder: &Path, label: String, before: Option<Known>) -> (Option<Known>, bool) {
    let stamp = match files::open_beneath(folder, Path::new(FILE)) {
        Ok((_, metadata)) => Stamp::of(&metadata),
        Err(Trouble::Absent) => return (None, before.is_some()),
        Err(trouble) => return refused(label, trouble, before),
    };
    if let Some(known) = before.as_ref()
        && known.stamp == Some(stamp)
    {
        return (before, false);
    }
    let (text, metadata) = match files::read_whole(folder, Path::new(FILE), parse::MAX_BYTES) {
        Ok(read) => read,
        Err(Trouble::Absent) => return (None, before.is_some()),
        Err(trouble) => return refused(label, trouble, before),
    };
    let read = parse::parse(&text).map(Arc::new);
    if let Ok(manifest) = &read
        && before.as_ref().is_some_and(|known| known.read.as_ref().is_ok_and(|old| old == manifest))
    {
        return (Some(Known { label, stamp: settled(&metadata), read }), false);
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
    (Some(Known { label, stamp: settled(&metadata), read }), true)
}

fn refused(label: String, trouble: Trouble, before: Option<Known>) -> (Option<Known>, bool) {
    let why = trouble.said();
    let told = before.is_some_and(|known| known.read.as_ref().is_err_and(|old| *old == why));
    if !told {
        tracing::warn!(manifest = label, "manifest {why}");
    }
    (Some(Known { label, stamp: None, read: Err(why) }), !told)
}

fn settled(metadata: &Metadata) -> Option<Stamp> {
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > UNSETTLED).then(|| Stamp::of(metadata))
}
