//! `void-wasm runs`: the runs there are, or one of them.

use std::process::ExitCode;

use void_api::{Reason, RunId, RunList, RunRecord, Status};

use crate::arguments::RunsArguments;
use crate::client::{Call, Client, encoded};
use crate::failure::Failure;
use crate::follow;
use crate::interrupt::Interrupt;
use crate::output::{hint, line};
use crate::report;
use crate::table::{cell, lay_out};
use crate::watch;

/// Lists, shows or follows.
pub(crate) async fn run(
    client: &mut Client,
    arguments: RunsArguments,
    json: bool,
) -> Result<ExitCode, Failure> {
    match arguments.run_id {
        None if arguments.follow => watch::run(client, &arguments, json).await,
        None => list(client, &arguments, json).await,
        Some(run_id) if arguments.follow => {
            let (answer, record) =
                follow::unless_interrupted(client, run_id, &mut Interrupt::new(false)?).await?;
            report::ended(&answer, &record, json)
        }
        Some(run_id) => show(client, run_id, json).await,
    }
}

async fn list(client: &mut Client, arguments: &RunsArguments, json: bool) -> Result<ExitCode, Failure> {
    let answer = client.call(Call::get(&query(arguments))).await?;
    if json {
        line(answer.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let list: RunList = answer.read()?;
    let rows: Vec<_> = std::iter::once(head()).chain(list.runs.iter().map(row)).collect();
    line(lay_out(&rows).trim_end())?;
    if let Some(cursor) = list.next_cursor {
        hint(&format!("there are more: --cursor {cursor}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the columns.
pub(crate) fn head() -> Vec<String> {
    ["RUN", "STATUS", "MODE", "CREATED", "CPU MS", "ENTRY", "RESULT"].map(str::to_owned).to_vec()
}

/// The page that the arguments ask for.
pub(crate) fn query(arguments: &RunsArguments) -> String {
    let mut query = format!("/v1/runs?limit={}", arguments.limit);
    if let Some(status) = arguments.status {
        query.push_str(&format!("&status={status}"));
    }
    if let Some(mode) = arguments.mode {
        query.push_str(&format!("&mode={mode}"));
    }
    for (key, value) in &arguments.label {
        query.push_str(&format!("&label={}:{}", encoded(key), encoded(value)));
    }
    if let Some(cursor) = &arguments.cursor {
        query.push_str(&format!("&cursor={}", encoded(cursor)));
    }
    query
}

/// A run's cells.
pub(crate) fn row(record: &RunRecord) -> Vec<String> {
    vec![
        record.run_id.to_string(),
        record.status.to_string(),
        record.mode.to_string(),
        record.created_at.to_string(),
        record.usage.cpu_ms.to_string(),
        cell(&record.entry, 32),
        cell(&outcome(record), 40),
    ]
}

/// The result, or why there is none.
fn outcome(record: &RunRecord) -> String {
    match (record.status, &record.result) {
        (Status::Finished, Some(result)) => result.get().to_owned(),
        _ => record.reason.map_or("", Reason::as_str).to_owned(),
    }
}

async fn show(client: &mut Client, run_id: RunId, json: bool) -> Result<ExitCode, Failure> {
    let (answer, record) = follow::read(client, run_id, 0).await?;
    if json {
        line(answer.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    line(lay_out(&fields(&record)).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn fields(record: &RunRecord) -> Vec<Vec<String>> {
    let usage = record.usage;
    let spent = format!(
        "{} ms CPU, {} ms in all, {} ms of it waiting, {} pages, {} gateway calls",
        usage.cpu_ms, usage.wall_ms, usage.wait_ms, usage.mem_pages, usage.syscalls
    );
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let optional = |moment: Option<void_api::Timestamp>| moment.map(|moment| moment.to_string());
    let shown = [
        ("run", Some(record.run_id.to_string())),
        ("status", Some(record.status.to_string())),
        ("mode", Some(record.mode.to_string())),
        ("result", record.result.as_ref().map(|result| result.get().to_owned())),
        ("reason", record.reason.map(|reason| reason.to_string())),
        ("error", record.error.clone()),
        ("exit code", record.exit_code.map(|code| code.to_string())),
        ("target", serde_json::to_string(&record.target).ok()),
        ("entry", Some(record.entry.clone())),
        ("labels", (!labels.is_empty()).then(|| labels.join(" "))),
        ("usage", Some(spent)),
        ("created", Some(record.created_at.to_string())),
        ("started", optional(record.started_at)),
        ("finished", optional(record.finished_at)),
        ("stdout", record.stdout.as_ref().map(|text| format!("{} bytes", text.len()))),
        ("stderr", record.stderr.as_ref().map(|text| format!("{} bytes", text.len()))),
    ];
    shown.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?])).collect()
}
