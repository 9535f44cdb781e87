//! The statements of [`super::Applier`]. SQLite compiles each once for a connection, which keeps it.

pub(super) const ADD_RUN: &str = "INSERT INTO runs (seq, run_id, tenant, status, mode, labels, started_at, ended_at, first_event, last_event, record, ordinal, source)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
pub(super) const ADD_PENDING: &str = "INSERT INTO pending (run, request, policy) VALUES (?1, ?2, ?3)";
pub(super) const DROP_PENDING: &str = "DELETE FROM pending WHERE run = ?1";
pub(super) const ADD_LABEL: &str = "INSERT INTO labels (tenant, label, run_id) VALUES (?1, ?2, ?3)";
pub(super) const ADD_EVENT: &str =
    "INSERT INTO events (seq, at, kind, tenant, source, run, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const FIND_RUN: &str = "SELECT seq, status, mode FROM runs WHERE tenant = ?1 AND run_id = ?2";
pub(super) const START_RUN: &str = "UPDATE runs SET status = ?2, started_at = ?3 WHERE seq = ?1";
pub(super) const HOLD_RUN: &str =
    "UPDATE runs SET status = ?2, started_at = NULL, record = ?3 WHERE seq = ?1";
pub(super) const END_RUN: &str =
    "UPDATE runs SET status = ?2, started_at = coalesce(?3, started_at), ended_at = ?4,
         last_event = ?5, record = ?6
     WHERE seq = ?1";
pub(super) const ADD_KEY: &str =
    "INSERT INTO keys (tenant, key, fingerprint, run_id, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
     ON CONFLICT (tenant, key) DO UPDATE SET
         fingerprint = excluded.fingerprint, run_id = excluded.run_id, expires_at = excluded.expires_at
     WHERE expires_at <= ?6";
pub(super) const FIND_KEY: &str = "SELECT run_id FROM keys WHERE tenant = ?1 AND key = ?2";
pub(super) const FIND_TENANT: &str = "SELECT id FROM tenants WHERE name = ?1";
pub(super) const ADD_TENANT: &str = "INSERT INTO tenants (name) VALUES (?1)";
pub(super) const FIND_SPACE: &str = "SELECT id, keys FROM kv_spaces WHERE tenant = ?1 AND name = ?2";
pub(super) const COUNT_SPACES: &str = "SELECT count(*) FROM kv_spaces WHERE tenant = ?1";
pub(super) const DROP_SPACE: &str = "DELETE FROM kv_spaces WHERE id = ?1";
pub(super) const ADD_SPACE: &str = "INSERT INTO kv_spaces (tenant, name, keys) VALUES (?1, ?2, 0)";
pub(super) const COUNT_SPACE: &str = "UPDATE kv_spaces SET keys = keys + ?2 WHERE id = ?1";
pub(super) const CHANGE_VALUE: &str = "UPDATE kv SET value = ?3 WHERE space = ?1 AND key = ?2";
pub(super) const ADD_VALUE: &str = "INSERT INTO kv (space, key, value) VALUES (?1, ?2, ?3)";
pub(super) const DROP_VALUE: &str = "DELETE FROM kv WHERE space = ?1 AND key = ?2";
