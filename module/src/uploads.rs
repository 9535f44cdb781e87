//! Modules that tenants uploaded: kept in the state folder, each tenant's apart, counted against its quota.
//!
//! Which uploads there are is held in memory, read once at the start; so asking for one that is not there costs no
//! I/O. Uploads are seen by their tenant alone: knowing a digest is no right to the bytes.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::{SupplyError, UploadError};
use crate::files::{self, Manner, Trouble};
use crate::verify::{Digest, Verified, sha256};

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// CIDv1 `raw` of the bytes.
    pub cid: String,
    /// sha256 of the bytes.
    pub sha256: [u8; 32],
    /// Length in bytes.
    pub size: u64,
    /// False when the tenant had it already.
    pub new: bool,
}

/// A file takes at least one block, so that many tiny uploads fill the quota, too.
const BLOCK: u64 = 4096;

/// Uploads are the tenant's, so nobody but the service may read them; and 201 means that the disk has them.
const MANNER: Manner = Manner { file_mode: 0o600, folder_mode: 0o700, sync: true };

#[derive(Debug, Default)]
struct Shelf {
    sizes: HashMap<Digest, u64>,
    used: u64,
}

impl Shelf {
    fn remove(&mut self, digest: &Digest) {
        if let Some(size) = self.sizes.remove(digest) {
            self.used = self.used.saturating_sub(charge(size));
        }
    }
}

fn charge(size: u64) -> u64 {
    size.max(1).div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// All tenants' uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    quota: u64,
    max_file: u64,
    /// By the name of the tenant's folder.
    shelves: Mutex<HashMap<String, Shelf>>,
}

impl Uploads {
    /// Makes the folder if needed and reads what is in it.
    pub(crate) fn open(folder: PathBuf, quota: u64, max_file: u64) -> Result<Self, SupplyError> {
        let shelves = read_shelves(&folder).map_err(|error| SupplyError::State(error.kind()))?;
        Ok(Self { folder, quota, max_file, shelves: Mutex::new(shelves) })
    }

    pub(crate) fn has(&self, tenant: &str, digest: &Digest) -> bool {
        let shelves = self.shelves.lock();
        // The common tenant names are their own folder names: no allocation on the way to a hit or a miss.
        let shelf = if plain(tenant) { shelves.get(tenant) } else { shelves.get(&folder_name(tenant)) };
        shelf.is_some_and(|shelf| shelf.sizes.contains_key(digest))
    }

    /// Reads and verifies an upload. One that the disk has lost or changed is forgotten, so that it can be
    /// uploaded again. Blocking.
    pub(crate) fn read(&self, tenant: &str, digest: &Digest) -> Result<Verified, Trouble> {
        let tenant = folder_name(tenant);
        let folder = self.folder.join(&tenant);
        let name = relative(digest);
        let trouble = match files::read_verified(&folder, &name, self.max_file, digest) {
            Ok((verified, _)) => return Ok(verified),
            Err(trouble) => trouble,
        };
        match trouble {
            Trouble::OtherBytes => {
                tracing::error!(file = %folder.join(&name).display(), "upload changed on disk: removed");
                if let Err(error) = std::fs::remove_file(folder.join(&name)) {
                    tracing::error!(%error, "changed upload cannot be removed");
                }
                self.forget(&tenant, digest);
            }
            Trouble::Absent => self.forget(&tenant, digest),
            _ => {}
        }
        Err(trouble)
    }

    fn forget(&self, tenant: &str, digest: &Digest) {
        if let Some(shelf) = self.shelves.lock().get_mut(tenant) {
            shelf.remove(digest);
        }
    }

    /// Stores a module within the tenant's quota. Returns whether it is new. Blocking.
    pub(crate) fn store(&self, tenant: &str, module: &Verified) -> Result<bool, UploadError> {
        let size = module.bytes().len() as u64;
        let digest = module.sha256();
        if size > self.max_file {
            return Err(UploadError::TooLarge { size, max: self.max_file });
        }
        if self.has(tenant, digest) && self.read(tenant, digest).is_ok() {
            return Ok(false);
        }
        let tenant = folder_name(tenant);
        // Counted before it is written, so that uploads at the same time cannot pass the quota together; listed
        // after, so that nobody looks for a file that is still being written.
        self.reserve(&tenant, size)?;
        let name = relative(digest);
        let written = match (name.parent(), name.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(file)) => {
                files::write_atomic(&self.folder.join(&tenant).join(parent), file, &[module.bytes()], MANNER)
            }
            _ => Err(ErrorKind::InvalidInput.into()),
        };
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(tenant).or_default();
        let again = match &written {
            Ok(()) => shelf.sizes.insert(*digest, size).is_some(),
            Err(_) => false,
        };
        if again || written.is_err() {
            shelf.used = shelf.used.saturating_sub(charge(size));
        }
        match written {
            Ok(()) => Ok(!again),
            Err(error) => {
                tracing::error!(%error, "upload not stored");
                Err(UploadError::Io(error.kind()))
            }
        }
    }

    fn reserve(&self, tenant: &str, size: u64) -> Result<(), UploadError> {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(tenant.to_owned()).or_default();
        let left = self.quota.saturating_sub(shelf.used);
        let needed = charge(size);
        if needed > left {
            return Err(UploadError::Quota { needed, left, quota: self.quota });
        }
        shelf.used += needed;
        Ok(())
    }
}

/// `ab/<64 hex>.wasm`
fn relative(digest: &Digest) -> PathBuf {
    let name = hex::encode(digest);
    Path::new(name.get(..2).unwrap_or_default()).join(format!("{name}.wasm"))
}

fn plain(tenant: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !tenant.is_empty() && tenant.len() <= 64 && tenant.bytes().all(allowed)
}

/// A tenant's name is any text; what is not a harmless file name is replaced by its digest, which no plain name
/// can equal because of the sign before it.
fn folder_name(tenant: &str) -> String {
    if plain(tenant) { tenant.to_owned() } else { format!("+{}", hex::encode(sha256(tenant.as_bytes()))) }
}

fn read_shelves(folder: &Path) -> std::io::Result<HashMap<String, Shelf>> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(MANNER.folder_mode).create(folder)?;
    let mut shelves = HashMap::new();
    for tenant in std::fs::read_dir(folder)? {
        let tenant = tenant?;
        let Ok(name) = tenant.file_name().into_string() else { continue };
        if !tenant.file_type()?.is_dir() {
            continue;
        }
        shelves.insert(name, read_shelf(&tenant.path())?);
    }
    Ok(shelves)
}

fn read_shelf(folder: &Path) -> std::io::Result<Shelf> {
    let mut shelf = Shelf::default();
    for part in std::fs::read_dir(folder)? {
        let part = part?;
        if !part.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(part.path())? {
            let file = file?;
            let Ok(name) = file.file_name().into_string() else { continue };
            if name.starts_with(files::UNFINISHED) {
                // Only one supervisor uses a state folder, and it is starting: nobody is writing this.
                match std::fs::remove_file(file.path()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => continue,
                }
            }
            let digest = name.strip_suffix(".wasm").and_then(crate::want::parse_digest);
            if let Some(digest) = digest {
                let size = file.metadata()?.len();
                shelf.used += charge(size);
                shelf.sizes.insert(digest, size);
            }
        }
    }
    Ok(shelf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn module(text: &'static str) -> Verified {
        Verified::named_by_itself(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn an_upload_survives_a_restart_and_is_its_tenants_alone() {
        let top = tempfile::tempdir().unwrap();
        let a = module("a");
        let uploads = Uploads::open(top.path().join("modules"), 1 << 20, 100).unwrap();
        assert!(uploads.store("eve/../..", &a).unwrap());
        assert!(!uploads.store("eve/../..", &a).unwrap());
        let again = Uploads::open(top.path().join("modules"), 1 << 20, 100).unwrap();
        assert!(again.has("eve/../..", a.sha256()));
        assert_eq!(again.read("eve/../..", a.sha256()).unwrap().bytes(), a.bytes());
        assert!(!again.has("default", a.sha256()));
        assert_eq!(again.read("default", a.sha256()).unwrap_err(), Trouble::Absent);
    }

    #[test]
    fn the_quota_counts_blocks_and_each_module_once() {
        let top = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(top.path().into(), 2 * BLOCK, 10).unwrap();
        for text in ["a", "a", "b", "b"] {
            uploads.store("t", &module(text)).unwrap();
        }
        let refusal = uploads.store("t", &module("c")).unwrap_err();
        assert_eq!(refusal, UploadError::Quota { needed: BLOCK, left: 0, quota: 2 * BLOCK });
        assert!(uploads.store("other", &module("c")).is_ok());
        assert!(matches!(uploads.store("u", &module("eleven bytes")), Err(UploadError::TooLarge { .. })));
    }

    #[test]
    fn a_changed_upload_is_removed_and_can_be_uploaded_again() {
        let top = tempfile::tempdir().unwrap();
        let a = module("a");
        let uploads = Uploads::open(top.path().into(), BLOCK, 10).unwrap();
        uploads.store("t", &a).unwrap();
        let file = top.path().join("t").join(relative(a.sha256()));
        std::fs::write(&file, "b").unwrap();
        assert_eq!(uploads.read("t", a.sha256()).unwrap_err(), Trouble::OtherBytes);
        assert!(!file.exists());
        assert!(!uploads.has("t", a.sha256()));
        assert!(uploads.store("t", &a).unwrap());
    }
}
