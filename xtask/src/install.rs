//! `cargo xtask install`: lays everything where a system expects it, for an administrator or for a package. It starts
//! nothing and changes no user; docs/deploy.md says what is left to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, Profile};
use crate::cargo::root;

/// Where the files in `deploy/` say that the programs are; replaced by what the prefix makes of it.
const PROGRAMS: &str = "/usr/lib/void-wasm/";
const DOCUMENTS: &str = "/usr/share/doc/void-wasm/";

/// The programs that find each other by lying in one folder.
const BESIDE: [&str; 3] = ["void-supervisor", "void-sandbox-worker", "void-sandbox-compiler"];

/// The user's settings: the one file that an installation leaves alone where it is.
pub(crate) const ENV_FILE: &str = "etc/void-wasm/void-wasm.env";

/// Files of the tree, their place below the prefix, and whether they name places.
const FILES: &[(&str, &str, bool)] = &[
    ("deploy/systemd/void-wasm.service", "lib/systemd/system/void-wasm.service", true),
    ("deploy/systemd/void-wasm.socket", "lib/systemd/system/void-wasm.socket", true),
    ("deploy/systemd/void-wasm.sysusers", "lib/sysusers.d/void-wasm.conf", false),
    ("deploy/systemd/network.conf", "share/void-wasm/systemd/network.conf", false),
    ("deploy/systemd/before-systemd-253.conf", "share/void-wasm/systemd/before-systemd-253.conf", false),
    ("deploy/apparmor/void-wasm", "share/void-wasm/apparmor/void-wasm", true),
    ("deploy/grafana/void-wasm.json", "share/void-wasm/grafana/void-wasm.json", false),
    ("deploy/prometheus/alerts.yml", "share/void-wasm/prometheus/alerts.yml", false),
];

/// Builds, and installs below `destdir`, as if that were the root folder.
pub(crate) fn run(prefix: &Path, destdir: &Path) -> Result<(), String> {
    build::run(Profile::Release)?;
    lay(prefix, destdir)?;
    eprintln!("── installed below {}; what is left to do stands in docs/deploy.md", destdir.display());
    Ok(())
}

/// Lays the files of a finished build.
pub(crate) fn lay(prefix: &Path, destdir: &Path) -> Result<(), String> {
    let below = prefix
        .strip_prefix("/")
        .map_err(|_| format!("--prefix {} is no absolute path: give one, such as /usr", prefix.display()))?;
    let place = destdir.join(below);
    let built = build::folder(Profile::Release)?;
    for name in BESIDE {
        program(&built.join(name), &place.join("lib/void-wasm").join(name))?;
    }
    program(&built.join("void-wasm"), &place.join("bin/void-wasm"))?;
    for (from, to, names_places) in FILES {
        let text = read(&root().join(from))?;
        write(&place.join(to), &if *names_places { moved(&text, prefix) } else { text })?;
    }
    for name in names(&root().join("docs"))?.iter().filter(|name| name.ends_with(".md")) {
        let text = read(&root().join("docs").join(name))?;
        write(&place.join("share/doc/void-wasm").join(name), &text)?;
    }
    let env_file = destdir.join(ENV_FILE);
    if env_file.exists() {
        eprintln!("── {} is there and stays as it is", env_file.display());
    } else {
        write(&env_file, &read(&root().join("deploy/systemd/void-wasm.env"))?)?;
    }
    folder(&destdir.join("etc/void-wasm/credentials"), 0o700)?;
    Ok(())
}

/// The text for another prefix than /usr.
fn moved(text: &str, prefix: &Path) -> String {
    let at = |folder: &str| format!("{}/", prefix.join(folder).display());
    text.replace(PROGRAMS, &at("lib/void-wasm")).replace(DOCUMENTS, &at("share/doc/void-wasm"))
}

/// The names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, "read", &error))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// A program without what only a debugger reads; its symbols stay, for backtraces.
fn program(from: &Path, to: &Path) -> Result<(), String> {
    beside(to)?;
    // Removed first: a program that runs cannot be written to.
    let _ = fs::remove_file(to);
    let stripped = Command::new("strip").arg("--strip-debug").arg("-o").args([to, from]).status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(from, to).map_err(|error| failed(to, "written", &error))?;
    }
    mode(to, 0o755)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| failed(path, "read", &error))
}

/// Writes a file that everyone may read, with the folders on its way.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    beside(path)?;
    fs::write(path, text).map_err(|error| failed(path, "written", &error))?;
    mode(path, 0o644)
}

/// A folder with a mode of its own; those on its way are for everyone.
pub(crate) fn folder(path: &Path, bits: u32) -> Result<(), String> {
    beside(path)?;
    fs::create_dir_all(path).map_err(|error| failed(path, "made", &error))?;
    mode(path, bits)
}

fn beside(path: &Path) -> Result<(), String> {
    let mut missing: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_path_buf).collect();
    missing.retain(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    for folder in missing.iter().rev() {
        fs::create_dir(folder).map_err(|error| failed(folder, "made", &error))?;
        mode(folder, 0o755)?;
    }
    Ok(())
}

/// Sets a file's mode, whatever this process' umask.
pub(crate) fn mode(path: &Path, bits: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
        .map_err(|error| failed(path, "given its mode", &error))
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> String {
    format!("{} cannot be {what}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BESIDE, FILES, PROGRAMS, moved, read};
    use crate::cargo::root;

    #[test]
    fn another_prefix_reaches_every_place() {
        let unit = read(&root().join("deploy/systemd/void-wasm.service")).unwrap();
        assert!(unit.contains(&format!("ExecStart={PROGRAMS}{}\n", BESIDE[0])));
        let local = moved(&unit, Path::new("/usr/local"));
        assert!(local.contains("ExecStart=/usr/local/lib/void-wasm/void-supervisor\n"), "{local}");
        assert_eq!(moved(&unit, Path::new("/usr")), unit);
        for (from, _, _) in FILES.iter().filter(|(_, _, names_places)| *names_places) {
            let text = moved(&read(&root().join(from)).unwrap(), Path::new("/opt/void"));
            assert!(!text.contains("/usr/lib/") && !text.contains("/usr/share/"), "{from}: {text}");
        }
    }
}
