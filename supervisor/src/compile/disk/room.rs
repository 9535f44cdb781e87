//! How much the code files may take, and which goes when there is more. Blocking; one thread's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::metrics::{CodeFile, Metrics};

/// All files together, bytes.
const ALL_MAX: u64 = 2 << 30;

/// What a file counts for beside its bytes, so that small ones are bounded in number.
const FILE_COST: u64 = 8 << 10;

/// What the files take, as counted at the start and written since.
#[derive(Debug)]
pub(super) struct Room {
    held: u64,
    max: u64,
}

struct Kept {
    path: PathBuf,
    cost: u64,
    used: SystemTime,
}

impl Room {
    /// Counts what lies in the folder of a build.
    pub(super) fn count(folder: &Path) -> Room {
        let held = tenants(folder).iter().flatten().map(|file| file.cost).sum();
        Room { held, max: ALL_MAX }
    }

    /// A file of so many bytes was written.
    pub(super) fn taken(&mut self, bytes: u64) {
        self.held = self.held.saturating_add(bytes + FILE_COST);
    }

    /// Removes files until one of about `bytes` more fits: of the tenant that has the most, the one that was used least
    /// lately. So nobody's code goes because of another's that has more.
    pub(super) fn make(&mut self, bytes: u64, folder: &Path, metrics: &Metrics) {
        let more = bytes.saturating_add(FILE_COST);
        if self.held.saturating_add(more) <= self.max {
            return;
        }
        let mut tenants = tenants(folder);
        self.held = tenants.iter().flatten().map(|file| file.cost).sum();
        // Some room beyond, so that a full cache is not listed for every file.
        let goal = (self.max - self.max / 10).saturating_sub(more);
        tenants.iter_mut().for_each(|files| files.sort_by_key(|file| std::cmp::Reverse(file.used)));
        while self.held > goal {
            let most = tenants.iter_mut().max_by_key(|files| files.iter().map(|file| file.cost).sum::<u64>());
            let Some(coldest) = most.and_then(Vec::pop) else { return };
            if fs::remove_file(&coldest.path).is_ok() {
                self.held = self.held.saturating_sub(coldest.cost);
                metrics.code_file(CodeFile::Evicted);
            }
        }
    }
}

/// The files of each tenant.
fn tenants(folder: &Path) -> Vec<Vec<Kept>> {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    folders
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| files(&entry.path()))
        .collect()
}

fn files(folder: &Path) -> Vec<Kept> {
    let kept = |entry: fs::DirEntry| {
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Kept { path: entry.path(), cost: meta.len() + FILE_COST, used })
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_coldest_of_whoever_has_most_goes() {
        let folder = std::env::temp_dir().join(format!("void-room-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let put = |tenant: &str, name: &str, bytes: usize, used: u64| {
            let path = folder.join(tenant).join(name);
            fs::create_dir_all(folder.join(tenant)).unwrap();
            fs::write(&path, vec![0; bytes]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(used)).unwrap();
            path
        };
        let small = put("quiet", "old", 1000, 1);
        let files = [30, 10, 20].map(|used| put("loud", &used.to_string(), 100_000, used));
        let mut room = Room::count(&folder);
        assert_eq!(room.held, 301_000 + 4 * FILE_COST);
        room.max = 360_000;
        room.make(150_000, &folder, &Metrics::new().unwrap());
        assert!(small.exists() && files[0].exists(), "the most recent, and the other tenant's");
        assert!(!files[1].exists() && !files[2].exists());
        assert_eq!(room.held, 101_000 + 2 * FILE_COST);
        room.make(1000, &folder, &Metrics::new().unwrap());
        assert!(files[0].exists(), "there was room");
        fs::remove_dir_all(&folder).unwrap();
    }
}
