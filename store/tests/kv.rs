//! Guests' values: namespaces, limits, and that a write that was awaited is read.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use bytes::Bytes;
use support::{block_on, open, tenant};
use void_store::{Batch, Change, KvKey, KvLimits, Store, WriteError};

const LIMITS: KvLimits = KvLimits { max_keys: 3, max_value_bytes: 8 };

fn key(of: &str, space: &str, key: &str) -> KvKey {
    KvKey { tenant: tenant(of), space: space.to_owned(), key: key.into() }
}

fn set(store: &Store, key: &KvKey, value: &str) -> Result<(), WriteError> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.submit(Change::KvSet { key: key.clone(), value, limits: LIMITS }).wait().map(drop)
}

fn get(store: &Store, key: &KvKey) -> Option<String> {
    block_on(store.kv_get(key.clone())).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn a_write_is_read_in_its_own_namespace_only() {
    let dir = tempfile::tempdir().unwrap();
    let here = key("a", "default", "k");
    {
        let (store, _) = open(dir.path());
        assert_eq!(get(&store, &here), None);
        for n in 0..200 {
            set(&store, &here, &n.to_string()).unwrap();
            assert_eq!(get(&store, &here), Some(n.to_string()));
        }
        assert_eq!(get(&store, &key("b", "default", "k")), None);
        assert_eq!(get(&store, &key("a", "other", "k")), None);
    }
    let (store, _) = open(dir.path());
    assert_eq!(get(&store, &here).as_deref(), Some("199"));
    assert_eq!(store.reader().unwrap().kv_get(&here).unwrap().as_deref(), Some(&b"199"[..]));
    for _ in 0..2 {
        store.submit(Change::KvDelete { key: here.clone() }).wait().unwrap();
        assert_eq!(get(&store, &here), None);
    }
}

#[test]
fn limits_hold_for_each_namespace_and_overwriting_is_always_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for n in ["1", "2", "3"] {
        set(&store, &key("a", "s", n), "v").unwrap();
    }
    assert_eq!(set(&store, &key("a", "s", "4"), "v"), Err(WriteError::KvKeys(3)));
    set(&store, &key("a", "s", "1"), "new").unwrap();
    set(&store, &key("a", "t", "4"), "v").unwrap();
    set(&store, &key("b", "s", "4"), "v").unwrap();
    store.submit(Change::KvDelete { key: key("a", "s", "2") }).wait().unwrap();
    set(&store, &key("a", "s", "4"), "v").unwrap();
    assert_eq!(set(&store, &key("a", "s", "5"), "v"), Err(WriteError::KvKeys(3)));

    assert_eq!(set(&store, &key("a", "s", "1"), "123456789"), Err(WriteError::KvValue { size: 9, max: 8 }));
    assert_eq!(set(&store, &key("a", "s", ""), "v"), Err(WriteError::KvKey(0)));
    assert_eq!(set(&store, &key("a", "s", &"k".repeat(257)), "v"), Err(WriteError::KvKey(257)));
    set(&store, &key("a", "long", &"k".repeat(256)), "v").unwrap();
    assert_eq!(get(&store, &key("a", "s", "1")).as_deref(), Some("new"), "a refusal changed nothing");
}

#[test]
fn a_tenant_has_so_many_namespaces_and_an_empty_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let writes: Vec<_> = (0..1_000)
        .map(|n| {
            let key = key("a", &format!("s{n}"), "k");
            store.submit(Change::KvSet { key, value: Bytes::from_static(b"v"), limits: LIMITS })
        })
        .collect();
    for write in writes {
        write.wait().unwrap();
    }
    assert_eq!(set(&store, &key("a", "more", "k"), "v"), Err(WriteError::KvSpaces(1_000)));
    set(&store, &key("a", "s7", "other"), "v").unwrap();
    set(&store, &key("b", "more", "k"), "v").unwrap();
    store.submit(Change::KvDelete { key: key("a", "s3", "k") }).wait().unwrap();
    set(&store, &key("a", "more", "k"), "v").unwrap();
    assert_eq!(set(&store, &key("a", "s3", "k"), "v"), Err(WriteError::KvSpaces(1_000)));
}

#[test]
fn a_refused_batch_leaves_the_count_of_keys_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for _ in 0..5 {
        let set = |n: usize| Change::KvSet {
            key: key("a", "s", &n.to_string()),
            value: Bytes::new(),
            limits: LIMITS,
        };
        let batch = (0..4).fold(Batch::new(), |batch, n| batch.with(set(n)));
        assert_eq!(store.submit(batch).wait().err(), Some(WriteError::KvKeys(3)));
    }
    for n in ["1", "2", "3"] {
        set(&store, &key("a", "s", n), "v").unwrap();
    }
}
