//! What cannot be opened is refused in a clear sentence and left as it was; what fails later is answered and recovers.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use support::{block_on, config, finished, open, queued, record, refusal, row, tenant};
use void_api::{Mode, Status};
use void_store::{Accept, Batch, Change, Store, StoreError, WriteError};

fn database(dir: &Path) -> PathBuf {
    dir.join("void.db")
}

/// A directory with a closed store that holds a few hundred runs.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let commits: Vec<_> = (0..300)
        .map(|_| store.submit(Accept::ended(row(&tenant("a"), &finished(record(Mode::Live))))))
        .collect();
    for commit in commits {
        commit.wait().unwrap();
    }
    drop(store);
    dir
}

#[test]
fn the_directory_is_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep").join("state");
    let (store, _) = open(&dir);
    store.submit(queued(&tenant("a"), &record(Mode::Live))).wait().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_supervisor_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("WASM_STATE_DIR"));
    store.submit(queued(&tenant("a"), &record(Mode::Live))).wait().unwrap();
    drop(store);
    open(dir.path());
}

#[test]
fn damaged_files_are_refused_and_not_touched() {
    type Damage = fn(&mut Vec<u8>);
    let damages: &[(&str, Damage)] = &[
        ("text", |bytes| *bytes = b"these are not the pages you are looking for".repeat(200)),
        ("zeroes", |bytes| bytes.fill(0)),
        ("short", |bytes| bytes.truncate(50)),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("header", |bytes| bytes[0..16].fill(b'x')),
        ("first page", |bytes| bytes[100..2048].fill(0xa5)),
        ("all but the first page", |bytes| bytes[2048..].fill(0xa5)),
    ];
    for (what, damage) in damages {
        let dir = filled();
        let path = database(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
        assert!(
            error.to_string().contains("left as it is") || error.to_string().contains("was left"),
            "{error}"
        );
        assert!(fs::read(&path).unwrap() == bytes, "{what}: the file was changed");
    }
}

#[test]
fn an_empty_database_beside_a_log_that_is_not_empty_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(database(dir.path()), b"").unwrap();
    fs::write(dir.path().join("void.db-wal"), b"what is left of the runs").unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Damaged { .. }));
    assert_eq!(fs::read(dir.path().join("void.db-wal")).unwrap(), b"what is left of the runs");
}

#[test]
fn a_missing_table_is_damage() {
    let dir = filled();
    Connection::open(database(dir.path())).unwrap().execute_batch("DROP TABLE events").unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Damaged { .. }));
}

#[test]
fn a_newer_schema_and_a_foreign_database_are_refused() {
    let dir = filled();
    let conn = Connection::open(database(dir.path())).unwrap();
    conn.pragma_update(None, "user_version", 7).unwrap();
    drop(conn);
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Newer { found: 7, known: 2, .. }), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let conn = Connection::open(database(dir.path())).unwrap();
    conn.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    drop(conn);
    assert!(matches!(refusal(dir.path()), StoreError::Foreign { .. }));
}

#[test]
fn a_database_locked_at_the_start_is_refused() {
    let dir = filled();
    let other = Connection::open(database(dir.path())).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; SELECT 1").unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(other);
    open(dir.path());
}

#[test]
fn a_database_locked_later_fails_writes_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let a = tenant("a");
    let waits = record(Mode::Live);
    store.submit(queued(&a, &waits)).wait().unwrap();
    let other = Connection::open(database(dir.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let lost = record(Mode::Live);
    let lost_commit = store.submit(queued(&a, &lost));
    let kept = store
        .submit(Batch::from(Change::Ended(Box::new(row(&a, &finished(waits.clone()))))).until_committed());
    assert_eq!(lost_commit.wait(), Err(WriteError::Locked));
    assert!(store.stats().failing && store.stats().failed_groups > 0);
    assert!(block_on(store.get("a", waits.run_id)).unwrap().is_some(), "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    kept.wait().unwrap();
    assert!(!store.stats().failing);
    assert_eq!(block_on(store.get("a", waits.run_id)).unwrap().unwrap().status, Status::Finished);
    assert!(block_on(store.get("a", lost.run_id)).unwrap().is_none());
    store.submit(queued(&a, &lost)).wait().unwrap();
}

const CHILD: &str = "VOID_STORE_TEST_CHILD_DIR";

fn run_child(test: &str, dir: &Path, prepare: impl FnOnce(&mut Command) -> &mut Command) {
    // Copied to where everybody may enter: the target folder may lie under a home that only its owner may.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut child = Command::new(program);
    child.args(["--exact", test, "--nocapture"]).env(CHILD, dir);
    let end = prepare(&mut child).output().unwrap();
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
}

/// No file may grow beyond 2 MiB here, which is how a full disk looks to SQLite: a write that does not succeed.
#[test]
fn child_whose_disk_is_full() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let (store, _) = open(dir);
    let a = tenant("a");
    let fat = |text: &str| {
        let mut run = finished(record(Mode::Live));
        run.stdout = Some(text.repeat(65_536));
        run
    };
    let waits = record(Mode::Live);
    store.submit(queued(&a, &waits)).wait().unwrap();
    let mut stored = Vec::new();
    let failure = loop {
        let run = fat("x");
        match store.submit(Accept::ended(row(&a, &run))).wait() {
            Ok(_) => stored.push(run.run_id),
            Err(error) => break error,
        }
        assert!(stored.len() < 1_000, "the limit did not bite");
    };
    assert!(failure.is_storage(), "{failure:?}");
    for id in &stored {
        assert!(block_on(store.get("a", *id)).unwrap().is_some(), "a full disk cost a stored run");
    }
    // What is small may or may not fit; what does not is answered with a typed error, every time.
    for _ in 0..50 {
        if let Err(error) = store.submit(Accept::ended(row(&a, &fat("y")))).wait() {
            assert!(error.is_storage(), "{error:?}");
        }
    }
}

#[test]
fn a_full_disk_fails_writes_and_costs_nothing_stored() {
    let dir = tempfile::tempdir().unwrap();
    // The shell sets the limit and ignores the signal that would tell of it.
    let exe = std::env::current_exe().unwrap();
    let script = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --exact child_whose_disk_is_full --nocapture";
    let end = Command::new("bash").args(["-c", script]).arg(exe).env(CHILD, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&end.stderr).into_owned() + &String::from_utf8_lossy(&end.stdout);
    assert!(end.status.success() && text.contains("1 passed"), "{text}");
    // With room again the same directory serves again.
    let (store, recovery) = open(dir.path());
    assert_eq!(recovery.pending.len(), 1);
    store.submit(queued(&tenant("a"), &record(Mode::Live))).wait().unwrap();
}

#[test]
fn child_that_may_not_write() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    for dir in [PathBuf::from(&dir).join("below"), PathBuf::from(&dir)] {
        let error = refusal(&dir);
        assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
    }
}

#[test]
fn a_directory_that_may_not_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let root =
        fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap() == 0;
    // Root may write everywhere, so there the child is nobody.
    run_child("child_that_may_not_write", dir.path(), |child| if root { child.uid(65_534) } else { child });
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(Store::open(&config(&file)), Err(StoreError::Directory { .. })));
}
