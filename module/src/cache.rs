//! The FNPM cache folder, shared with FNPM's own tools: `ba/fk/<cid>.wasm`, characters 1-2 and 3-4 of the CID.
//!
//! Others write to it too, so every file is verified when it is read; one that holds other bytes is removed, and the module
//! is fetched again. A UnixFS file cannot always be compared with its root block by its bytes alone, so for a `dag-pb` CID
//! the verified blocks are kept, as `<cid>.car`; a `<cid>.wasm` of others counts where it can be compared. What cannot be
//! compared, or is larger than allowed here, has failed no check and may serve others: it stays. A folder that is full or
//! read-only costs speed, never a run.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::answer::{Miss, SourceKind};
use crate::files::{self, Manner, Trouble};
use crate::source::{Found, Local};
use crate::stats::{Stats, add};
use crate::unixfs;
use crate::want::{Form, Want};

/// Shared with other tools and users of the machine, so readable; not synced, since a torn file fails its check.
const MANNER: Manner = Manner { file_mode: 0o644, folder_mode: 0o755, sync: false };
/// A file's time of use is noted at most this often.
const NOTE_USE: Duration = Duration::from_secs(3600);
/// A file that is still unfinished after this long belongs to a writer that died.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The cache folder.
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    max_bytes: u64,
    max_file: u64,
    stats: Arc<Stats>,
    /// Bytes in the folder as last counted, and written since; `None` before the first count.
    held: Mutex<Option<u64>>,
}

impl Cache {
    pub(crate) fn new(folder: PathBuf, max_bytes: u64, max_file: u64, stats: Arc<Stats>) -> Self {
        Self { inner: Arc::new(Inner { folder, max_bytes, max_file, stats, held: Mutex::new(None) }) }
    }

    /// Keeps what another source delivered. Never fails the caller: trouble is logged and counted.
    pub(crate) fn keep(&self, want: &Want, found: &Found) {
        let parts = match (&found.proof, want) {
            (Some(proof), Want::Dag(..)) => proof.clone(),
            (_, Want::Raw(_)) => vec![found.module.bytes().clone()],
            (None, Want::Dag(..)) => return,
        };
        let (inner, want) = (self.inner.clone(), *want);
        // Nobody waits for it: the module is in memory already.
        tokio::task::spawn_blocking(move || inner.write(&want, &parts));
    }
}

impl Local for Cache {
    fn kind(&self) -> SourceKind {
        SourceKind::Cache
    }

    fn name(&self) -> &str {
        "cache"
    }

    fn find(&self, _on: &Handle, want: &Want) -> Result<Found, Miss> {
        self.inner.read(want)
    }
}

impl Inner {
    fn read(&self, want: &Want) -> Result<Found, Miss> {
        let mut said = Miss::Absent("not there".to_owned());
        for name in layouts(want) {
            match self.read_one(want, &name) {
                Ok((found, metadata)) => {
                    self.note_use(&name, metadata.accessed().ok());
                    return Ok(found);
                }
                Err(Miss::Absent(_)) => {}
                Err(miss @ Miss::Invalid(_)) => return Err(miss),
                // The first trouble is told.
                Err(miss) if matches!(said, Miss::Absent(_)) => said = miss,
                Err(_) => {}
            }
        }
        Err(said)
    }

    fn read_one(&self, want: &Want, name: &Path) -> Result<(Found, Metadata), Miss> {
        let judge = |trouble| self.judge(name, trouble);
        match want {
            Want::Raw(digest) => files::read_verified(&self.folder, name, self.max_file, digest)
                .map(|(module, metadata)| (module.into(), metadata))
                .map_err(judge),
            Want::Dag(..) => {
                let (found, metadata) =
                    unixfs::from_file(want, &self.folder, name, self.max_file).map_err(judge)?;
                // Only verified blocks say anything about the module.
                found.map(|found| (found, metadata)).map_err(Miss::Invalid)
            }
        }
    }

    /// What trouble with a file means. Only a file that failed its check goes: what was not compared may be right, and is
    /// not in the way of what is fetched.
    fn judge(&self, name: &Path, trouble: Trouble) -> Miss {
        match trouble {
            Trouble::Absent => Miss::Absent("not there".to_owned()),
            Trouble::OtherBytes => Miss::Lied(self.remove(name)),
            Trouble::Incomparable => Miss::Lied(trouble.said()),
            Trouble::TooLarge => Miss::TooLarge(trouble.said()),
            other => Miss::Failed(other.said()),
        }
    }

    fn remove(&self, name: &Path) -> String {
        let file = self.folder.join(name);
        tracing::warn!(file = %file.display(), "cached module holds other bytes");
        match std::fs::remove_file(&file) {
            Ok(()) => "held other bytes, removed".to_owned(),
            Err(error) => format!("holds other bytes, cannot remove them ({})", error.kind()),
        }
    }

    /// Sets the time of use, which the eviction goes by; many machines do not keep it on reads.
    fn note_use(&self, name: &Path, last: Option<SystemTime>) {
        let now = SystemTime::now();
        let recent = last.and_then(|last| now.duration_since(last).ok()).is_some_and(|age| age < NOTE_USE);
        if recent {
            return;
        }
        // A read-only folder refuses: then the files go by the time of their writing.
        if let Ok(file) = std::fs::File::open(self.folder.join(name)) {
            let _ = file.set_times(std::fs::FileTimes::new().set_accessed(now));
        }
    }

    fn write(&self, want: &Want, parts: &[Bytes]) {
        let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if size > self.max_bytes {
            return;
        }
        let name = layout(want);
        let (Some(parent), Some(file)) = (name.parent(), name.file_name().and_then(|name| name.to_str()))
        else {
            return;
        };
        self.make_room(size);
        match files::write_atomic(&self.folder.join(parent), file, parts, MANNER) {
            Ok(()) => add(&self.stats.cache_writes, 1),
            Err(error) => {
                add(&self.stats.cache_write_errors, 1);
                tracing::warn!(folder = %self.folder.display(), %error, "module not cached");
            }
        }
    }

    /// Removes the least recently used files until `more` bytes fit.
    fn make_room(&self, more: u64) {
        let mut held = self.held.lock();
        if let Some(known) = *held
            && known.saturating_add(more) <= self.max_bytes
        {
            *held = Some(known + more);
            return;
        }
        // Other tools write here as well, so the count is only believed until it says "full".
        let mut files = list(&self.folder);
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        if total.saturating_add(more) > self.max_bytes {
            // A tenth below the bound, so that a full cache is not listed for every write.
            let goal = (self.max_bytes - self.max_bytes / 10).saturating_sub(more);
            files.sort_by_key(|file| file.used);
            for file in files {
                if total <= goal {
                    break;
                }
                if std::fs::remove_file(&file.path).is_ok() {
                    total = total.saturating_sub(file.size);
                    add(&self.stats.cache_evictions, 1);
                }
            }
        }
        *held = Some(total.saturating_add(more));
    }
}

/// Where it is kept: `ba/fk/<cid>.wasm` for bytes, `ba/fy/<cid>.car` for a DAG.
fn layout(want: &Want) -> PathBuf {
    match want {
        Want::Raw(_) => laid(want, "wasm"),
        Want::Dag(digest, _) => laid(&Want::Dag(*digest, Form::V1), "car"),
    }
}

/// Where it may lie: as it is kept here, or as others keep a DAG's file, under its CID in either form.
pub(crate) fn layouts(want: &Want) -> Vec<PathBuf> {
    let mut all = vec![layout(want)];
    if let Want::Dag(digest, _) = want {
        all.extend([Form::V1, Form::V0].map(|form| laid(&Want::Dag(*digest, form), "wasm")));
    }
    all
}

/// Characters 1-2 and 3-4 of the CID are folders.
fn laid(want: &Want, suffix: &str) -> PathBuf {
    let cid = want.to_string();
    let part = |range| cid.get(range).unwrap_or_default();
    Path::new(part(0..2)).join(part(2..4)).join(format!("{cid}.{suffix}"))
}

struct Listed {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// The files that lie where the layout puts them; anything else in the folder is not ours to count or remove.
fn list(folder: &Path) -> Vec<Listed> {
    let mut listed = Vec::new();
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name().len() == 2)
            .map(|entry| entry.path())
            .collect()
    };
    for leaf in folders(folder).iter().flat_map(|path| folders(path)) {
        for entry in std::fs::read_dir(leaf).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let used = metadata.accessed().into_iter().chain(metadata.modified()).max();
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            if name.starts_with(files::UNFINISHED) {
                if used.elapsed().is_ok_and(|age| age > ABANDONED) {
                    let _ = std::fs::remove_file(entry.path());
                }
                continue;
            }
            let want = name.split_once('.').and_then(|(cid, _)| Want::parse(cid).ok());
            let ours = want.is_some_and(|want| {
                layouts(&want).iter().any(|laid| laid.file_name() == Some(name.as_ref()))
            });
            if ours && metadata.is_file() {
                listed.push(Listed { path: entry.path(), size: metadata.len(), used });
            }
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Verified, sha256};

    fn cache(folder: &Path, max_bytes: u64) -> Inner {
        let stats = Arc::new(Stats::default());
        Inner { folder: folder.into(), max_bytes, max_file: 1000, stats, held: Mutex::new(None) }
    }

    #[test]
    fn the_layout_is_fnpms() {
        let want = Want::parse("bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom").unwrap();
        let name = "ba/fk/bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom.wasm";
        assert_eq!(layouts(&want), [Path::new(name)]);
        let v1 = "ba/fy/bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34";
        let v0 = "Qm/Yw/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";
        for text in [&v1[6..], &v0[6..]] {
            let laid = layouts(&Want::parse(text).unwrap());
            assert_eq!(
                laid,
                [format!("{v1}.car"), format!("{v1}.wasm"), format!("{v0}.wasm")].map(PathBuf::from)
            );
        }
    }

    #[test]
    fn what_fails_is_removed_once() {
        let top = tempfile::tempdir().unwrap();
        let cache = cache(top.path(), 1000);
        let module = Verified::named_by_itself(Bytes::from_static(b"module"));
        let want = Want::Raw(*module.sha256());
        cache.write(&want, &[module.bytes().clone()]);
        assert_eq!(cache.read(&want).unwrap().module.bytes(), module.bytes());
        std::fs::write(top.path().join(layout(&want)), "modulf").unwrap();
        assert!(matches!(cache.read(&want), Err(Miss::Lied(_))));
        assert!(matches!(cache.read(&want), Err(Miss::Absent(_))));
    }

    #[test]
    fn the_least_recently_used_goes_and_strangers_stay() {
        let top = tempfile::tempdir().unwrap();
        let cache = cache(top.path(), 1000);
        let modules: Vec<Bytes> = (0..4u8).map(|n| Bytes::from(vec![n; 300])).collect();
        let wants: Vec<Want> = modules.iter().map(|bytes| Want::Raw(sha256(bytes))).collect();
        for n in 0..3 {
            cache.write(&wants[n], &[modules[n].clone()]);
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs([50, 10, 90][n]);
            let times = std::fs::FileTimes::new().set_accessed(used).set_modified(used);
            let file = std::fs::File::open(top.path().join(layout(&wants[n]))).unwrap();
            file.set_times(times).unwrap();
        }
        let leaf = top.path().join(layout(&wants[0]));
        std::fs::write(leaf.with_file_name("notes.txt"), [0; 5000]).unwrap();
        cache.write(&wants[3], &[modules[3].clone()]);
        let there: Vec<bool> = wants.iter().map(|want| cache.read(want).is_ok()).collect();
        assert_eq!(there, [true, false, true, true]);
        assert!(leaf.with_file_name("notes.txt").exists());
    }
}
