//! The run record: what `GET /v1/runs/{run_id}` answers, and what the store keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{DenialNote, Mode, Reason, RunId, Status, Target, Timestamp};

/// Everything that is known of one run. Absent fields are left out, but `result` is always there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunRecord {
    /// The run.
    pub run_id: RunId,
    /// Where it stands.
    pub status: Status,
    /// How it was admitted.
    pub mode: Mode,
    /// See [`crate::results_json`] and [`dry_run_result`]; null until finished, and without results.
    #[serde(default)]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "serde_json::Value",
            description = "None: null. One: itself, an i64 as a string. Several: an array. A dry run: {\"dry_run\": true}.",
        )
    )]
    pub result: Option<Box<RawValue>>,
    /// On [`Status::Error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Reason", description = "With the status error."))]
    pub reason: Option<Reason>,
    /// What happened, for people; a trap's backtrace follows on lines of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub error: Option<String>,
    /// What the run spent.
    #[serde(default)]
    pub usage: Usage,
    /// The module, as the request named it.
    pub target: Target,
    /// The entry, in its canonical form.
    pub entry: String,
    /// As the request gave them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the guest wrote, bytes that are not UTF-8 replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub stdout: Option<String>,
    /// As [`RunRecord::stdout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String", description = "As stdout."))]
    pub stderr: Option<String>,
    /// There was more on stdout than is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdout_truncated: bool,
    /// There was more on stderr than is kept.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stderr_truncated: bool,
    /// A WASI command's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "i32"))]
    pub exit_code: Option<i32>,
    /// Gateway calls that policy refused, each refusal once. Those that there is no room for count with another by their rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<DenialNote>,
    /// Where the module came from: `upload`, `manifest`, `cache`, `ipfs`, `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub source: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the guest was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Timestamp"))]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Timestamp"))]
    pub finished_at: Option<Timestamp>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What one run spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// CPU time of the guest, milliseconds.
    pub cpu_ms: u64,
    /// From the start of execution to its end, milliseconds.
    pub wall_ms: u64,
    /// The part of it spent waiting on gateway calls, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// The most linear memory held, pages of 64 KiB.
    pub mem_pages: u64,
    /// Gateway calls made, the refused ones included.
    pub syscalls: u64,
}

impl RunRecord {
    /// The record of a run that was just accepted.
    #[must_use]
    pub fn accepted(run_id: RunId, created_at: Timestamp, mode: Mode, target: Target, entry: String) -> Self {
        Self {
            run_id,
            status: if mode == Mode::Frozen { Status::Frozen } else { Status::Accepted },
            mode,
            result: None,
            reason: None,
            error: None,
            usage: Usage::default(),
            target,
            entry,
            labels: BTreeMap::new(),
            stdout: None,
            stderr: None,
            stdout_truncated: false,
            stderr_truncated: false,
            exit_code: None,
            denials: Vec::new(),
            source: None,
            created_at,
            started_at: None,
            finished_at: None,
        }
    }
}

/// The `result` of a run that was checked and not executed.
#[must_use]
pub fn dry_run_result() -> Option<Box<RawValue>> {
    RawValue::from_string("{\"dry_run\":true}".to_owned()).ok()
}

/// `GET /v1/runs`, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunList {
    /// One page.
    pub runs: Vec<RunRecord>,
    /// `cursor=` of the next page, absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CidText;

    fn record() -> RunRecord {
        let target = Target::Cid(CidText::raw([7; 32]));
        RunRecord::accepted(RunId::new(1_000, 5), Timestamp(1_000), Mode::Live, target, "add".into())
    }

    #[test]
    fn absent_fields_are_left_out_and_result_is_not() {
        let json: serde_json::Value = serde_json::to_value(record()).unwrap();
        let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["created_at", "entry", "labels", "mode", "result", "run_id", "status", "target", "usage"]
        );
        assert_eq!(json["result"], serde_json::Value::Null);
        assert_eq!(json["created_at"], "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn a_full_record_survives_json() {
        let mut full = record();
        full.status = Status::Error;
        full.reason = Some(Reason::Exit);
        full.error = Some("exit code 3".into());
        full.result = dry_run_result();
        full.stdout = Some("hi\n".into());
        full.stdout_truncated = true;
        full.exit_code = Some(3);
        full.labels.insert("k".into(), "v".into());
        full.finished_at = Some(Timestamp(2_000));
        full.denials.push(DenialNote {
            kind: crate::CallKind::HttpFetch,
            rule: "host_not_allowed".into(),
            reason: "r".into(),
            remedy: "w".into(),
            count: 2,
        });
        let text = serde_json::to_string(&full).unwrap();
        let back: RunRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        assert!(text.contains("\"result\":{\"dry_run\":true}"));
    }

    #[test]
    fn the_seed_documents_example_is_read() {
        let mut json = serde_json::to_value(record()).unwrap();
        json["result"] = 5.into();
        json["usage"] =
            serde_json::json!({"cpu_ms": 12, "mem_pages": 16, "syscalls": 3, "wall_ms": 1, "later": 0});
        let read: RunRecord = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(read.result.unwrap().get(), "5");
        assert_eq!(read.usage.cpu_ms, 12);
    }
}
