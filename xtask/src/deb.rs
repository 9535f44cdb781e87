//! `cargo xtask deb`: a Debian package of the tree, made with dpkg-deb alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, Profile};
use crate::cargo::{root, stage, target_dir};
use crate::install::{self, ENV_FILE, mode, write};

const NAME: &str = "void-wasm";
/// The engine's memory layout and the filters are for this one.
const ARCHITECTURE: &str = "amd64";
/// How a program names the version of the C library that it needs.
const C_LIBRARY: &[u8] = b"GLIBC_2.";
/// Completions by shell, and where each looks for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/void-wasm"),
    ("zsh", "usr/share/zsh/vendor-completions/_void-wasm"),
    ("fish", "usr/share/fish/vendor_completions.d/void-wasm.fish"),
];

/// Builds, and makes the package.
pub(crate) fn run() -> Result<(), String> {
    let package = make()?;
    println!("{}", package.display());
    Ok(())
}

/// Builds and makes the package; where it lies.
pub(crate) fn make() -> Result<PathBuf, String> {
    build::run(Profile::Release)?;
    let folder = target_dir()?.join("debian");
    let tree = folder.join(NAME);
    if tree.exists() {
        fs::remove_dir_all(&tree)
            .map_err(|error| format!("{}: cannot be removed: {error}", tree.display()))?;
    }
    install::lay(Path::new("/usr"), &tree)?;
    command_line_help(&tree)?;
    write(&tree.join("usr/share/doc/void-wasm/copyright"), COPYRIGHT)?;
    control(&tree)?;

    let package = folder.join(format!("{NAME}_{}_{ARCHITECTURE}.deb", version()));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zgzip", "--build"]).args([&tree, &package]);
    // The same commit gives the same package, byte for byte.
    if let Some(seconds) = commit_time() {
        command.env("SOURCE_DATE_EPOCH", seconds);
    }
    stage("package", command)?;
    Ok(package)
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn commit_time() -> Option<String> {
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Completions and man pages, as the command itself gives them.
fn command_line_help(tree: &Path) -> Result<(), String> {
    let program = build::folder(Profile::Release)?.join("void-wasm");
    for (shell, place) in COMPLETIONS {
        write(&tree.join(place), &said(Command::new(&program).args(["completions", shell]))?)?;
    }
    let pages = tree.join("usr/share/man/man1");
    install::folder(&pages, 0o755)?;
    said(Command::new(&program).arg("man").arg(&pages))?;
    for name in install::names(&pages)? {
        mode(&pages.join(&name), 0o644)?;
        said(Command::new("gzip").args(["-9", "-n"]).arg(pages.join(&name)))?;
    }
    Ok(())
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{command:?} printed something that is not text"))
}

fn control(tree: &Path) -> Result<(), String> {
    let folder = tree.join("DEBIAN");
    let library = c_library(tree)?;
    let text = format!(
        "Package: {NAME}\nVersion: {}\nArchitecture: {ARCHITECTURE}\nSection: net\nPriority: optional\n\
         Maintainer: the void-wasm project <void-wasm@localhost>\nInstalled-Size: {}\n\
         Depends: libc6 (>= 2.{library}), libgcc-s1, systemd (>= 252), init-system-helpers\n\
         Recommends: ca-certificates\nSuggests: apparmor, prometheus, grafana\n\
         Description: runs untrusted WebAssembly, each run in a locked-down process of its own\n \
         An HTTP service that executes WebAssembly modules of others within budgets of time and memory,\n \
         and the command void-wasm that speaks to it. By default nothing executes: see\n \
         /usr/share/doc/void-wasm/deploy.md.\n",
        version(),
        kibibytes(tree)?,
    );
    write(&folder.join("control"), &text)?;
    write(&folder.join("conffiles"), &format!("/{ENV_FILE}\n"))?;
    for script in ["postinst", "prerm", "postrm"] {
        let from = root().join("deploy/debian").join(script);
        let text = fs::read_to_string(&from)
            .map_err(|error| format!("{}: cannot be read: {error}", from.display()))?;
        write(&folder.join(script), &text)?;
        mode(&folder.join(script), 0o755)?;
    }
    Ok(())
}

/// The C library that the programs need, as the 36 of 2.36. The worker is linked with its own.
fn c_library(tree: &Path) -> Result<u32, String> {
    let mut newest = None;
    for program in ["lib/void-wasm/void-supervisor", "lib/void-wasm/void-sandbox-compiler", "bin/void-wasm"] {
        let path = tree.join("usr").join(program);
        let bytes =
            fs::read(&path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        newest = newest.max(newest_version(&bytes));
    }
    newest.ok_or_else(|| {
        "the programs name no version of the C library: adapt C_LIBRARY in xtask/src/deb.rs".into()
    })
}

/// The newest version of the C library that a program names.
fn newest_version(program: &[u8]) -> Option<u32> {
    let minor = |start: &[u8]| {
        let digits: Vec<u8> = start.iter().copied().take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).ok()?.parse().ok()
    };
    let all = program.windows(C_LIBRARY.len()).enumerate().filter(|(_, window)| *window == C_LIBRARY);
    all.filter_map(|(at, _)| minor(program.get(at + C_LIBRARY.len()..)?)).max()
}

fn kibibytes(folder: &Path) -> Result<u64, String> {
    let unread = |error: std::io::Error| format!("{}: cannot be read: {error}", folder.display());
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let meta = entry.metadata().map_err(unread)?;
        sum += if meta.is_dir() { kibibytes(&entry.path())? } else { meta.len().div_ceil(1024) };
    }
    Ok(sum)
}

/// Builds the package for a test that needs one, or takes the one that is given.
pub(crate) fn given_or_made(given: Option<&Path>) -> Result<PathBuf, String> {
    match given {
        Some(package) if package.is_file() => Ok(package.to_owned()),
        Some(package) => Err(format!("{} is no file: give a package, or leave --deb out", package.display())),
        None => make(),
    }
}

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
Upstream-Name: void-wasm\n\n\
Files: *\nCopyright: the void-wasm project\nLicense: Apache-2.0\n \
On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n";

#[cfg(test)]
mod tests {
    use super::newest_version;

    #[test]
    fn the_newest_version_of_the_c_library_counts() {
        assert_eq!(newest_version(b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0"), Some(34));
        assert_eq!(newest_version(b"GLIBC_2."), None);
        assert_eq!(newest_version(b"nothing"), None);
    }
}
