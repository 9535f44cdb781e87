//! `kv.get`, `kv.set`, `kv.delete`: a tenant's values in the store.
//!
//! What was set is durable when the guest is answered, and read by whoever reads after that. Limits are compared by the
//! writer, in one step with writing, so that any number of writers keep to them.

use std::sync::Arc;

use bytes::Bytes;
use void_ipc::message::{Refusal, Reply};
use void_policy::judge::{KvPermit, KvSetPermit};
use void_store::{Change, KvKey, KvLimits, Store, WriteError};

use super::{Answer, Failure, Work};
use crate::app::App;

fn key(permit: &KvPermit) -> KvKey {
    KvKey {
        tenant: Arc::from(permit.tenant().as_str()),
        space: permit.namespace().to_owned(),
        key: permit.key().as_bytes().to_vec(),
    }
}

fn value(value: Option<Bytes>) -> Answer {
    Answer::plain(Reply::Value(value.map(|value| value.to_vec())))
}

/// Answers from memory.
///
/// # Errors
/// The key, for [`get`]: it is not known there.
pub(super) fn known(store: &Store, permit: &KvPermit) -> Result<Answer, KvKey> {
    let key = key(permit);
    store.kv_known(&key).map(value).ok_or(key)
}

/// Reads.
pub(super) fn get(app: &Arc<App>, key: KvKey) -> Work {
    let app = Arc::clone(app);
    Box::pin(async move {
        app.store.kv_get(key).await.map(value).map_err(|error| {
            tracing::error!(%error, "a guest's value could not be read");
            Failure::Failed(Refusal::Unavailable)
        })
    })
}

/// Whoever calls the gateway has an end to store.
const OWN: usize = 1;

/// Writes.
pub(super) fn set(app: &Arc<App>, permit: KvSetPermit) -> Work {
    let value = Bytes::copy_from_slice(permit.value());
    let limits = KvLimits { max_keys: permit.max_keys(), max_value_bytes: value.len() };
    let commit = app.store.submit_alone(Change::KvSet { key: key(permit.place()), value, limits }, OWN);
    Box::pin(async move {
        match commit.await {
            Ok(_) => Ok(Answer::plain(Reply::Done)),
            Err(WriteError::KvKeys(_)) => Err(permit.namespace_full().into()),
            Err(WriteError::KvSpaces(most)) => Err(permit.no_more_namespaces(most).into()),
            Err(error) => Err(not_written(&error)),
        }
    })
}

/// Deletes.
pub(super) fn delete(app: &Arc<App>, permit: &KvPermit) -> Work {
    let commit = app.store.submit_alone(Change::KvDelete { key: key(permit) }, OWN);
    Box::pin(async move {
        match commit.await {
            Ok(committed) => Ok(Answer::plain(Reply::Deleted(committed.removed > 0))),
            Err(error) => Err(not_written(&error)),
        }
    })
}

fn not_written(error: &WriteError) -> Failure {
    // The store says itself when the storage fails.
    tracing::debug!(%error, "a guest's value could not be written");
    Failure::Failed(Refusal::Unavailable)
}
