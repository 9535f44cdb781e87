//! `cargo xtask dev`: a server that is built anew and restarted whenever a source file changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::build::{self, Profile};
use crate::cargo::{root, target_dir};
use crate::demo::watch_signals;
use crate::server::Server;
use crate::source::members;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(300);
/// Endings of what a build reads.
const ENDINGS: [&str; 8] = ["rs", "toml", "lock", "wat", "wasm", "css", "js", "svg"];

/// Serves until Ctrl-C.
pub(crate) fn run(profile: Profile) -> Result<(), String> {
    let interrupted = watch_signals()?;
    let settings = settings(&target_dir()?.join("dev-state"));
    let mut server: Option<Server> = None;
    let mut built = None;
    while !interrupted.load(Ordering::Relaxed) {
        let seen = Seen::now()?;
        if built.as_ref() == Some(&seen) {
            if let Some(status) = server.as_mut().map(Server::ended).transpose()?.flatten() {
                eprintln!(
                    "xtask: the server ended by itself with {status}; it is started again at the next change"
                );
                server = None;
            }
            thread::sleep(LOOK);
            continue;
        }
        // What was seen before the build: a change during the build is seen after it.
        built = Some(seen);
        match build::run(profile) {
            Ok(()) => {
                // Ended in order; how it ends is the demo's to judge, one that has just begun has no order yet.
                drop(server.take());
                server = start(profile, &settings, &interrupted)?;
            }
            // The server that runs goes on.
            Err(reason) => eprintln!("xtask: {reason}"),
        }
    }
    eprintln!("\nStopping.");
    drop(server);
    Ok(())
}

fn start(
    profile: Profile,
    settings: &[(String, String)],
    interrupted: &Arc<AtomicBool>,
) -> Result<Option<Server>, String> {
    if interrupted.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let settings: Vec<(&str, String)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let server = Server::start(&build::folder(profile)?.join("void-supervisor"), &settings)?;
    server.show();
    eprintln!("\nServing; built anew and restarted at every change, until Ctrl-C.");
    Ok(Some(server))
}

/// The demo's settings with a state that stays, under whatever the caller has set.
fn settings(state: &Path) -> Vec<(String, String)> {
    let own = [
        ("WASM_EXEC_ENABLED", "1".to_owned()),
        ("WASM_EXEC_CANARY", "1".to_owned()),
        ("WASM_STATE_DIR", state.display().to_string()),
        ("FNPM_MANIFEST_DIRS", root().join("examples/chimera-output").display().to_string()),
        ("FNPM_CACHE_DIR", state.join("modules").display().to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let callers = std::env::vars()
        .filter(|(name, _)| name == "PORT" || ["WASM_", "FNPM_"].iter().any(|start| name.starts_with(start)));
    // A later one wins.
    own.into_iter().chain(callers).collect()
}

/// The files that a build reads: how many there are, and when the newest was written.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    files: usize,
    newest: Option<SystemTime>,
}

impl Seen {
    fn now() -> Result<Self, String> {
        let root = root();
        let mut seen = Self { files: 0, newest: None };
        seen.look(&root, false)?;
        for member in members(&root)? {
            seen.look(&root.join(member), true)?;
        }
        Ok(seen)
    }

    fn look(&mut self, folder: &Path, into: bool) -> Result<(), String> {
        let unreadable = |error| format!("{}: cannot be looked at: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            // A file that is being replaced is seen at the next look.
            let Ok(about) = fs::metadata(&path) else { continue };
            if about.is_dir() && into {
                self.look(&path, true)?;
            } else if about.is_file()
                && path.extension().is_some_and(|ending| ENDINGS.iter().any(|e| ending == *e))
            {
                self.files += 1;
                self.newest = self.newest.max(about.modified().ok());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn look(folder: &std::path::Path) -> Seen {
        let mut seen = Seen { files: 0, newest: None };
        seen.look(folder, true).unwrap();
        seen
    }

    #[test]
    fn a_written_a_new_and_a_lost_file_are_seen() {
        let folder = std::env::temp_dir().join(format!("xtask-dev-{}", std::process::id()));
        fs::create_dir_all(folder.join("src/deep")).unwrap();
        let file = folder.join("src/deep/a.rs");
        fs::write(&file, "a").unwrap();
        let first = look(&folder);
        assert_eq!((first.files, &look(&folder)), (1, &first));
        let later = SystemTime::now() + Duration::from_secs(2);
        fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let second = look(&folder);
        assert_ne!(second, first);
        fs::write(folder.join("b.toml"), "").unwrap();
        fs::write(folder.join("notes.md"), "").unwrap();
        assert_eq!(look(&folder).files, 2);
        fs::remove_file(&file).unwrap();
        assert_eq!(look(&folder).files, 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
