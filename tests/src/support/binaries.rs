//! Where the executables under test lie.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PROGRAMS: [&str; 3] = ["void-supervisor", "void-sandbox-worker", "void-sandbox-compiler"];

/// The folder of the release executables: `release/` of the target folder that this test was built into. The
/// variable `VOID_WASM_TEST_BIN_DIR` names another one, for tests that were built elsewhere.
pub(crate) fn release_dir() -> PathBuf {
    let dir = match std::env::var_os("VOID_WASM_TEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let test = std::env::current_exe().expect("a test has an executable");
            // target/<profile>/deps/<test>, or with a target triple target/<triple>/<profile>/deps/<test>.
            test.ancestors()
                .skip(1)
                .map(|dir| dir.join("release"))
                .find(|dir| dir.join(PROGRAMS[0]).is_file())
                .unwrap_or_else(|| test.ancestors().nth(3).unwrap_or(Path::new("/")).join("release"))
        }
    };
    for program in PROGRAMS {
        let path = dir.join(program);
        assert!(path.is_file(), "{} is missing: run `cargo xtask build --release` first", path.display());
    }
    dir
}

/// A folder with the executables, in which the worker is `void-hostile-worker`.
pub(crate) fn with_hostile_worker(into: &Path) -> PathBuf {
    let from = release_dir();
    let dir = into.join("bin");
    fs::create_dir(&dir).expect("the folder for the executables");
    for program in PROGRAMS {
        let source = if program == "void-sandbox-worker" { "void-hostile-worker" } else { program };
        let source = from.join(source);
        assert!(source.is_file(), "{} is missing: `cargo xtask test` builds it", source.display());
        fs::copy(source, dir.join(program)).expect("an executable can be copied");
    }
    dir
}

/// The supervisor's executable.
pub fn supervisor() -> PathBuf {
    release_dir().join(PROGRAMS[0])
}

/// Copies the executables to a folder that every user may enter, for a server that runs as somebody else: the target
/// folder may lie under a home that only its owner may enter.
pub(crate) fn copy_for_everybody(into: &Path) -> PathBuf {
    let from = release_dir();
    let dir = into.join("bin");
    fs::create_dir(&dir).expect("the folder for the executables");
    for program in PROGRAMS {
        fs::copy(from.join(program), dir.join(program)).expect("an executable can be copied");
        fs::set_permissions(dir.join(program), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(into, fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}
