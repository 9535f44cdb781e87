//! `void-wasm policy` and `void-wasm status`: the service itself.

use std::process::ExitCode;

use serde_json::Value;

use crate::client::{Call, Client};
use crate::failure::{Failure, code};
use crate::output::{line, note};
use crate::table::lay_out;

/// Prints the policy in force, one setting a line.
pub(crate) async fn policy(client: &mut Client, json: bool) -> Result<ExitCode, Failure> {
    let answer = client.call(Call::get("/v1/policy")).await?;
    if json {
        line(answer.text())?;
    } else {
        let mut rows = Vec::new();
        flatten("", &answer.read()?, &mut rows);
        line(lay_out(&rows).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints whether the service lives and would take a run; exits with 75 where it would not.
pub(crate) async fn status(client: &mut Client, json: bool) -> Result<ExitCode, Failure> {
    client.call(Call::get("/health")).await?;
    let ready = match client.call(Call::get("/readyz")).await {
        Ok(_) => None,
        Err(Failure::TryAgain(problem, _)) => Some(problem.detail),
        Err(failure) => return Err(failure),
    };
    if json {
        let shown = serde_json::json!({ "healthy": true, "ready": ready.is_none(), "reason": ready });
        line(&shown.to_string())?;
    } else {
        line(if ready.is_none() { "ready" } else { "not ready" })?;
        if let Some(reason) = &ready {
            note(&format!("void-wasm: {reason}"));
        }
    }
    Ok(if ready.is_none() { ExitCode::SUCCESS } else { ExitCode::from(code::TRY_AGAIN) })
}

/// Nested settings as `outer.inner`; a list of plain values on one line.
fn flatten(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&inner(key), value, rows)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| flatten(&inner(&index.to_string()), item, rows));
        }
        Value::Array(items) => {
            rows.push(vec![name.to_owned(), items.iter().map(plain).collect::<Vec<_>>().join(",")])
        }
        value => rows.push(vec![name.to_owned(), plain(value)]),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::flatten;

    #[test]
    fn settings_are_one_a_line() {
        let policy = serde_json::json!({"limits": {"cpu_ms": 200}, "caps": ["emit", "kv"], "layers": [{"name": "seccomp"}]});
        let mut rows = Vec::new();
        flatten("", &policy, &mut rows);
        rows.sort();
        assert_eq!(rows, [["caps", "emit,kv"], ["layers.0.name", "seccomp"], ["limits.cpu_ms", "200"]]);
    }
}
