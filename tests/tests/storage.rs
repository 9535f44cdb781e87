//! Trouble with the storage: a clear error, nothing lost, and recovery without help.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use void_tests::{DatabaseLock, Response, Server, eventually, tests_run_as_root};

const SOON: Duration = Duration::from_secs(20);
/// Exit code of a start that cannot have its state (EX_CANTCREAT of sysexits.h).
const NO_STATE: i32 = 73;

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a plain path")
}

/// A small file system in memory, unmounted when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where nothing may be mounted here; the reason is printed.
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        if !tests_run_as_root() {
            eprintln!("SKIPPED: only root can mount a small file system");
            return None;
        }
        let options = format!("size={size},mode=0777");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs", path(folder.path())])
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                eprintln!("SKIPPED: no file system can be mounted here: {other:?}");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options, path(self.0.path())]).status();
        assert!(status.is_ok_and(|status| status.success()), "remount with {options}");
    }

    fn state(&self) -> String {
        path(&self.0.path().join("state")).to_owned()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", path(self.0.path())]).status();
    }
}

fn ask(server: &Server, cid: &str, prefer: &str) -> Response {
    server.exec(json!({"target": {"cid": cid}, "entry": "answer"})).header("Prefer", prefer).send()
}

/// While the storage fails nothing is accepted and nothing executed; once it works again, everything is as before.
fn fails_and_recovers(server: &Server, break_it: impl FnOnce(&str) -> Vec<String>, mend_it: impl FnOnce()) {
    let cid = server.upload_guest("loop");
    let kept = server.run(&cid, "answer", json!([])).record().clone();
    let metric = |name| server.metrics().sum(name, &[]);
    let told = break_it(&cid);
    eventually("the service knows", SOON, || {
        ask(server, &cid, "respond-async");
        metric("void_wasm_store_failing") == 1.0
    });
    for prefer in ["respond-async", "wait=2"] {
        let answer = ask(server, &cid, prefer);
        assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/health").status, 200);
    let id = kept["run_id"].as_str().expect("an id");
    assert_eq!(server.look_up(id).record(), &kept, "what is stored can be read all the while");
    server.logs(&["ERROR", "the database could not be written"]);
    mend_it();
    // By itself: nobody sends a run before it says that it is ready.
    eventually("it is ready again", SOON, || server.get("/readyz").status == 200);
    server.logs(&["the database can be written again"]);
    assert_eq!(server.run(&cid, "answer", json!([])).result(), &json!(42));
    for id in told {
        assert_eq!(server.wait_for(&id).result(), &json!(42), "accepted before, and lost");
    }
}

#[test]
fn a_full_disk_refuses_runs_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let server = Server::builder().env("WASM_STATE_DIR", &disk.state()).start();
    let filler = disk.0.path().join("filler");
    let fill = |cid: &str| {
        let told = ask(&server, cid, "respond-async").json();
        // To the last page.
        let mut file = std::fs::File::create(&filler).expect("a file");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        vec![told["run_id"].as_str().expect("an id").to_owned()]
    };
    fails_and_recovers(&server, fill, || std::fs::remove_file(&filler).expect("room again"));
}

#[test]
fn a_read_only_disk_refuses_runs_until_it_can_be_written() {
    // Files that are open for writing keep a file system from becoming read-only, so its size is taken away instead;
    // a start on a disk that is read-only is refused.
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let state = disk.state();
    let server = Server::builder().env("WASM_STATE_DIR", &state).start();
    let cid = server.upload_guest("loop");
    let id = server.run(&cid, "answer", json!([])).id().to_owned();
    drop(server);
    disk.remount("ro");
    let exited = Server::builder().env("WASM_STATE_DIR", &state).refuses_to_start();
    exited.with_code(NO_STATE).and_says(&["ERROR", &state]);
    disk.remount("rw");
    let server = Server::builder().env("WASM_STATE_DIR", &state).start();
    assert_eq!(server.look_up(&id).result(), &json!(42));
}

#[test]
fn a_database_that_another_process_locks_is_waited_for() {
    if !DatabaseLock::is_possible() {
        return;
    }
    let server = Server::start();
    let locked = std::cell::RefCell::new(None);
    let lock = |cid: &str| {
        let told = ask(&server, cid, "respond-async").json();
        *locked.borrow_mut() = Some(DatabaseLock::take(&server));
        vec![told["run_id"].as_str().expect("an id").to_owned()]
    };
    fails_and_recovers(&server, lock, || drop(locked.take()));
}

/// The state of a server that had one run, changed by `change`.
fn refused(change: impl FnOnce(&mut Vec<u8>), words: &[&str]) {
    let state = TempDir::new().expect("a temporary folder");
    let server = Server::builder().env("WASM_STATE_DIR", path(state.path())).start();
    let cid = server.upload_guest("loop");
    server.run(&cid, "answer", json!([]));
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    drop(server);
    // A drain leaves everything in the one file.
    let database = state.path().join("void.db");
    let log_of_writes = std::fs::metadata(state.path().join("void.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(log_of_writes, 0, "the log of writes was left behind");
    let mut bytes = std::fs::read(&database).expect("the database");
    change(&mut bytes);
    std::fs::write(&database, &bytes).expect("written");
    let exited = Server::builder().env("WASM_STATE_DIR", path(state.path())).refuses_to_start();
    exited.with_code(NO_STATE).and_says(words);
    assert_eq!(std::fs::read(&database).expect("the database"), bytes, "a refused database was changed");
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    // The version stands at byte 60 of the header, big-endian.
    refused(|bytes| bytes[60..64].copy_from_slice(&99_u32.to_be_bytes()), &["ERROR", "void.db", "99"]);
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    refused(|bytes| bytes[2048..].fill(0xa5), &["ERROR", "void.db", "damaged"]);
    refused(|bytes| *bytes = b"something else entirely".to_vec(), &["ERROR", "void.db"]);
    refused(|bytes| bytes.truncate(bytes.len() / 2), &["ERROR", "void.db"]);
}

#[test]
fn full_durability_has_every_answer_wait_for_the_disk() {
    let server = Server::builder().env("WASM_DURABILITY", "full").start();
    let cid = server.upload_guest("loop");
    let told: Vec<Value> = (0..50).map(|_| ask(&server, &cid, "respond-async").json()).collect();
    let server = server.restart();
    for run in told {
        // One may have been under way when the service was killed; what was told is there in any case, with its end.
        let record = server.wait_for(run["run_id"].as_str().expect("an id"));
        let record = record.record();
        let ended = record["status"] == "finished" || record["reason"] == "interrupted";
        assert!(ended, "{record}");
    }
}
