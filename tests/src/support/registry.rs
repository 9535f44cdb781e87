//! Files of published packages, fetched once by the registry's own client, kept in the target folder, and used only
//! when they are, byte for byte, what was expected.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// `path` inside the npm package `spec` (`name@version`), whose bytes have this SHA-256. `None` where there is no
/// `npm` to fetch it with, which CI (the variable `CI` is set) does not accept.
#[track_caller]
pub fn npm_file(spec: &str, path: &str, sha256: &str) -> Option<Vec<u8>> {
    let kept = cache_dir().join(format!("{sha256}.bin"));
    if let Some(bytes) = read_verified(&kept, sha256) {
        return Some(bytes);
    }
    let work = tempfile::TempDir::new().expect("a temporary folder");
    let packed = Command::new("npm").args(["pack", "--silent", spec]).current_dir(work.path()).output();
    let packed = match packed {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "npm is missing: apt-get install npm");
            eprintln!("NOT CHECKED: npm is missing, so {spec} cannot be fetched (apt-get install npm)");
            return None;
        }
        other => other.expect("npm can be executed"),
    };
    assert!(packed.status.success(), "npm pack {spec}: {}", String::from_utf8_lossy(&packed.stderr));
    let archive = fs::read_dir(work.path())
        .expect("the folder that npm wrote to")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .unwrap_or_else(|| panic!("npm pack {spec} left no archive"));
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(work.path())
        .arg(format!("package/{path}"))
        .status();
    assert!(unpacked.is_ok_and(|status| status.success()), "{path} is not in {spec}");
    let bytes = read_verified(&work.path().join("package").join(path), sha256)
        .unwrap_or_else(|| panic!("{path} of {spec} is not the file that this test was written for"));
    fs::create_dir_all(cache_dir()).expect("the folder for fetched files");
    // Written beside and renamed: another test may be doing the same.
    let beside =
        tempfile::NamedTempFile::new_in(cache_dir()).expect("a file in the folder for fetched files");
    fs::write(beside.path(), &bytes).expect("the fetched file can be kept");
    beside.persist(&kept).expect("the fetched file can be kept");
    Some(bytes)
}

fn read_verified(path: &Path, sha256: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    (hex::encode(Sha256::digest(&bytes)) == sha256).then_some(bytes)
}

/// In the target folder, so that `cargo clean` removes it.
fn cache_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test has an executable");
    test.ancestors().nth(3).unwrap_or(Path::new("/tmp")).join("registry-files")
}
