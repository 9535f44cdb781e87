//! Opening: the directory, the lock, the judgement of what lies there, the migrations. A refusal changes nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use void_api::RunId;

use crate::codes::{IdBytes, uint};
use crate::error::StoreError;
use crate::events::created_at;
use crate::schema;

/// The database inside the state directory; SQLite adds `-wal` and `-shm`.
const DATABASE: &str = "void.db";
/// Held by `flock` for the life of the process: the kernel frees it also after `kill -9`, and it needs no exclusive
/// locking mode of SQLite, which would shut out our own readers.
const LOCK: &str = "lock";
/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How every connection is opened: never makes a file by itself, and belongs to one thread at a time.
pub(crate) fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// A database that is ours and sound as far as an opening can tell.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) conn: Connection,
    /// Kept for the store's life.
    pub(crate) lock: File,
}

pub(crate) fn open(dir: &Path, full_durability: bool) -> Result<Opened, StoreError> {
    let lock = prepare_directory(dir)?;
    let path = dir.join(DATABASE);
    prepare_file(dir, &path)?;
    let failed = |error: rusqlite::Error| StoreError::from_sqlite(&path, &error);
    let mut conn = Connection::open_with_flags(&path, flags()).map_err(failed)?;
    conn.busy_timeout(schema::BUSY_TIMEOUT).map_err(failed)?;
    let version = judge(&conn, &path)?;
    // Only a database without pages takes it.
    conn.pragma_update(None, "page_size", schema::PAGE_BYTES).map_err(failed)?;
    let mode: String =
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let detail =
            format!("it cannot use a write-ahead log, its journal is {mode}: use a local file system");
        return Err(StoreError::Open { path, detail });
    }
    schema::prepare_writer(&conn, full_durability).map_err(failed)?;
    schema::migrate(&mut conn, version).map_err(failed)?;
    probe(&conn, &path)?;
    Ok(Opened { path, conn, lock })
}

/// Makes the directory if needed, and takes the lock.
fn prepare_directory(dir: &Path) -> Result<File, StoreError> {
    let failed = |source: io::Error| StoreError::Directory { dir: dir.to_path_buf(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(LOCK))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes an empty database file with the right mode, or judges the first bytes of the one that is there. SQLite itself
/// would take some wrong files for new ones and overwrite them.
fn prepare_file(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |source: io::Error| StoreError::Directory { dir: dir.to_path_buf(), source };
    let damaged = |detail: &str| StoreError::Damaged { path: path.to_path_buf(), detail: detail.to_owned() };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let wal_bytes = fs::metadata(dir.join(format!("{DATABASE}-wal"))).map_or(0, |wal| wal.size());
    if meta.size() == 0 {
        return if wal_bytes == 0 {
            Ok(())
        } else {
            Err(damaged("it is empty, and its write-ahead log is not"))
        };
    }
    let mut header = [0; 100];
    if file.read_exact(&mut header).is_err() {
        return Err(damaged("it is shorter than the header of a database"));
    }
    if !header.starts_with(MAGIC) {
        return Err(damaged("it is not a database"));
    }
    // Without a WAL to add to it, the file must be as long as its header says.
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        page => u64::from(page),
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    if wal_bytes == 0 && meta.size() < page * pages {
        return Err(damaged("it is shorter than its header says"));
    }
    if meta.mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(())
}

/// Whether the file is ours, and of which version. 0 is a new one.
fn judge(conn: &Connection, path: &Path) -> Result<u32, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::from_sqlite(path, &error);
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let application: i32 =
        conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let new = application == 0 && version == 0 && tables == 0;
    if !new && application != schema::APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_path_buf() });
    }
    match u32::try_from(version) {
        Ok(found) if found <= schema::VERSION => Ok(found),
        found => Err(StoreError::Newer {
            path: path.to_path_buf(),
            found: found.unwrap_or(u32::MAX),
            known: schema::VERSION,
        }),
    }
}

/// Reads the ends of every tree: costs microseconds at any size, and finds a file whose pages are torn or lost where it
/// matters first. A full check reads the whole file, which a start cannot wait for; damage further in is found when it
/// is met, and reported as such.
fn probe(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    const ENDS: &[&str] = &[
        "SELECT min(seq), max(seq) FROM runs",
        "SELECT record FROM runs ORDER BY seq DESC LIMIT 1",
        "SELECT mode FROM runs INDEXED BY runs_id ORDER BY tenant DESC, run_id DESC LIMIT 1",
        "SELECT count(*) FROM runs WHERE status < 2",
        "SELECT count(*) FROM pending",
        "SELECT min(seq), max(seq) FROM events",
        "SELECT body FROM events ORDER BY seq DESC LIMIT 1",
        "SELECT label FROM labels ORDER BY tenant DESC, label DESC, run_id DESC LIMIT 1",
        "SELECT key FROM keys ORDER BY id DESC LIMIT 1",
        "SELECT id FROM keys ORDER BY tenant DESC, key DESC LIMIT 1",
        "SELECT value FROM kv ORDER BY space DESC, key DESC LIMIT 1",
        "SELECT count(*) FROM tenants",
        "SELECT count(*) FROM kv_spaces WHERE tenant = 1",
    ];
    for sql in ENDS {
        let read = conn.query_row(sql, [], |_| Ok(())).optional();
        if let Err(error) = read {
            return Err(match StoreError::from_sqlite(path, &error) {
                // A missing table or column: the schema is not the one that the version promises.
                StoreError::Open { path, detail } => StoreError::Damaged { path, detail },
                other => other,
            });
        }
    }
    Ok(())
}

/// The number of an event source, made if new.
pub(crate) fn source_number(conn: &Connection, source: &str) -> rusqlite::Result<i64> {
    conn.execute("INSERT OR IGNORE INTO sources (name) VALUES (?1)", [source])?;
    conn.query_row("SELECT id FROM sources WHERE name = ?1", [source], |row| row.get(0))
}

/// The newest time that the newest rows have, Unix milliseconds.
pub(crate) fn newest_ms(conn: &Connection) -> rusqlite::Result<Option<u64>> {
    let event = "SELECT at FROM events ORDER BY seq DESC LIMIT 1";
    let event: Option<i64> = conn.query_row(event, [], |row| row.get(0)).optional()?;
    let run = "SELECT record, coalesce(ended_at, started_at, 0) FROM runs ORDER BY seq DESC LIMIT 1";
    let run = conn.query_row(run, [], |row| {
        // What is no record is found when it is read.
        let created_at = created_at(row.get_ref(0)?.as_blob()?).unwrap_or(0);
        Ok(created_at.max(uint(row.get(1)?)))
    });
    Ok(event.map(uint).max(run.optional()?))
}

/// The greatest id of a run.
pub(crate) fn greatest_id(conn: &Connection) -> rusqlite::Result<Option<RunId>> {
    let of_each = "SELECT max((SELECT max(run_id) FROM runs WHERE tenant = t.id)) FROM tenants t";
    let id: Option<IdBytes> = conn.query_row(of_each, [], |row| row.get(0))?;
    Ok(id.map(IdBytes::run_id))
}
