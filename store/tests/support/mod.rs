//! What the tests of the store share: a store in a directory of its own, and records to put into it.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use void_api::{CidText, Mode, RunId, RunRecord, Status, Target, Timestamp, Usage};
use void_store::{Accept, Recovery, RunRow, Store, StoreConfig, StoreError};

/// Some moment of 2026.
pub const NOW: u64 = 1_790_000_000_000;

static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_path_buf(),
        full_durability: false,
        runs_keep: 1_000_000,
        // Records carry made-up times, so age must not matter where a test does not say so.
        runs_keep_hours: 1_000_000,
        node: "test".to_owned(),
    }
}

pub fn open(dir: &Path) -> (Store, Recovery) {
    Store::open(&config(dir)).unwrap()
}

pub fn refusal(dir: &Path) -> StoreError {
    match Store::open(&config(dir)) {
        Ok(_) => panic!("the store was opened"),
        Err(error) => error,
    }
}

pub fn tenant(name: &str) -> Arc<str> {
    name.into()
}

pub fn new_id() -> RunId {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    RunId::new(NOW + n, u128::from(n))
}

pub fn record(mode: Mode) -> RunRecord {
    let id = new_id();
    let mut record = RunRecord::accepted(
        id,
        Timestamp(id.unix_ms()),
        mode,
        Target::Cid(CidText::raw([7; 32])),
        "add(i32,i32)->i32".to_owned(),
    );
    record.labels.insert("repo".to_owned(), "void".to_owned());
    record
}

pub fn running(mut record: RunRecord) -> RunRecord {
    record.status = Status::Running;
    record.started_at = Some(Timestamp(record.created_at.0 + 1));
    record
}

pub fn finished(mut record: RunRecord) -> RunRecord {
    record.status = Status::Finished;
    record.result = serde_json::value::RawValue::from_string("5".to_owned()).ok();
    record.usage = Usage { cpu_ms: 1, wall_ms: 2, wait_ms: 0, mem_pages: 3, syscalls: 4 };
    record.started_at = Some(Timestamp(record.created_at.0 + 1));
    record.finished_at = Some(Timestamp(record.created_at.0 + 2));
    record
}

pub fn row(tenant: &Arc<str>, record: &RunRecord) -> RunRow {
    RunRow::new(tenant, record).unwrap()
}

pub fn queued(tenant: &Arc<str>, record: &RunRecord) -> Accept {
    Accept::queued(row(tenant, record), Bytes::from_static(b"request"), Bytes::from_static(b"policy"), None)
}

/// Awaits on a runtime of its own, which is what a lane has.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
