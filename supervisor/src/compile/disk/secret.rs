//! The secret that the code files are named and authenticated with, and what it is used for. HMAC-SHA256 (RFC 2104).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A block of SHA-256: such a key is used as it is.
const BYTES: usize = 64;
const NAME: &str = "key";

/// What this service makes, and how it writes it. Another number is another cache.
const FORMAT: u32 = 1;

/// Made at the first start and kept in the folder itself, so that removing the folder removes all of it.
pub(super) struct Secret([u8; BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What code is made by and for: it is of use to nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Build {
    /// The engine's compatibility hash, as the compiler tells it.
    pub(crate) engine: u64,
    /// sha256 over the worker's and the compiler's program files.
    pub(crate) programs: [u8; 32],
}

impl Secret {
    /// Reads the secret in `folder`, or makes one. One that others may read, or that is none, is replaced: what was
    /// authenticated with it may be anybody's.
    pub(super) fn open(folder: &Path) -> io::Result<Secret> {
        let path = folder.join(NAME);
        match read(&path) {
            Ok(Some(secret)) => return Ok(secret),
            Ok(None) => tracing::warn!("the code cache's key was not the service's alone; it begins anew"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let new = folder.join("key.new");
        // Left by a process that died: its permissions may be anything.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        Ok(Secret(bytes))
    }

    /// The name under which code of a tenant's module is kept. The tenant stands last, so that no two questions are
    /// written alike.
    pub(super) fn name(&self, build: &Build, tenant: &str, sha256: &[u8; 32]) -> [u8; 32] {
        let mut mac = self.begin("name");
        mac.update(&FORMAT.to_le_bytes());
        mac.update(&build.engine.to_le_bytes());
        mac.update(&build.programs);
        mac.update(sha256);
        mac.update(tenant.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The name of a tenant's folder.
    pub(super) fn tenant(&self, tenant: &str) -> [u8; 32] {
        self.begin("tenant").chain_update(tenant).finalize().into_bytes().into()
    }

    /// The name of the folder for what a build makes.
    pub(super) fn build(&self, build: &Build) -> [u8; 32] {
        let mac = self.begin("build").chain_update(FORMAT.to_le_bytes());
        let mac = mac.chain_update(build.engine.to_le_bytes()).chain_update(build.programs);
        mac.finalize().into_bytes().into()
    }

    /// Begins the code over a file's content. It holds for the file of that name alone.
    pub(super) fn content(&self, name: &[u8; 32]) -> Hmac<Sha256> {
        self.begin("content").chain_update(name)
    }

    /// Each use has a word of its own, so that one's output is never another's.
    fn begin(&self, word: &str) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as Mac>::new(&self.0.into());
        mac.chain_update("void-wasm code ").chain_update(word).chain_update([0])
    }
}

/// `None`: it is not as we leave it.
fn read(path: &Path) -> io::Result<Option<Secret>> {
    let mut file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    let ours = meta.is_file()
        && meta.mode() & 0o077 == 0
        && meta.uid() == nix::unistd::geteuid().as_raw()
        && meta.len() == BYTES as u64;
    if !ours {
        return Ok(None);
    }
    let mut bytes = [0; BYTES];
    file.read_exact(&mut bytes)?;
    Ok(Some(Secret(bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("void-secret-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn it_is_kept_and_private_and_replaced_when_it_is_not() {
        let folder = scratch("kept");
        let first = Secret::open(&folder).unwrap();
        let path = folder.join(NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::open(&folder).unwrap().0, first.0);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let second = Secret::open(&folder).unwrap();
        assert_ne!(second.0, first.0);
        std::fs::write(&path, b"short").unwrap();
        assert_ne!(Secret::open(&folder).unwrap().0, second.0);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_part_makes_another_name() {
        let secret = Secret([7; BYTES]);
        let build = Build { engine: 1, programs: [2; 32] };
        let name = secret.name(&build, "a", &[3; 32]);
        let others = [
            secret.name(&Build { engine: 2, ..build }, "a", &[3; 32]),
            secret.name(&Build { programs: [3; 32], ..build }, "a", &[3; 32]),
            secret.name(&build, "b", &[3; 32]),
            secret.name(&build, "a", &[4; 32]),
            Secret([8; BYTES]).name(&build, "a", &[3; 32]),
            secret.tenant("a"),
        ];
        assert!(others.iter().all(|other| *other != name));
        assert_eq!(secret.name(&build, "a", &[3; 32]), name);
    }

    /// RFC 4231, test case 2: the primitive is the one that is meant.
    #[test]
    fn the_known_answer_of_hmac_sha256() {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
            0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
        ];
        mac.verify_slice(&expected).unwrap();
    }
}
