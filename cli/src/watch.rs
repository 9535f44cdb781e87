//! `void-wasm runs --follow`: the runs there are, and each one again as it begins and ends.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;
use void_api::{RunId, RunList, RunRecord};

use crate::arguments::{EventsArguments, RunsArguments};
use crate::client::{Call, Client};
use crate::events;
use crate::failure::Failure;
use crate::follow;
use crate::output::line;
use crate::runs::{head, query, row};
use crate::table::lay_out_from;

/// Columns as wide as what usually stands in them: the rows to come are not known yet.
const WIDTHS: [usize; 6] = [31, 9, 7, 24, 6, 24];

/// Lists, then watches until interrupted, or until the service stays away.
pub(crate) async fn run(
    client: &mut Client,
    arguments: &RunsArguments,
    json: bool,
) -> Result<ExitCode, Failure> {
    // The stream holds its connection; what is asked meanwhile goes over another one.
    let mut asking = client.another();
    let mut showing = client.another();
    let all = EventsArguments { kind: None, run_id: None, after: None };
    let opened = async || list(&mut asking, arguments, json).await;
    let each = async |event: events::Event| match subject(&event.data) {
        Some(run_id) => show(&mut showing, arguments, run_id, json).await,
        None => Ok(()),
    };
    events::follow(client, &all, opened, each).await
}

async fn list(client: &mut Client, arguments: &RunsArguments, json: bool) -> Result<(), Failure> {
    let answer = client.call(Call::get(&query(arguments))).await?;
    if json {
        let page: Value = answer.read()?;
        let runs = page["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
        return runs.iter().rev().try_for_each(|run| line(&run.to_string()));
    }
    let page: RunList = answer.read()?;
    let rows: Vec<_> = std::iter::once(head()).chain(page.runs.iter().rev().map(row)).collect();
    line(lay_out_from(&rows, &WIDTHS).trim_end())
}

async fn show(
    client: &mut Client,
    arguments: &RunsArguments,
    run_id: RunId,
    json: bool,
) -> Result<(), Failure> {
    let (answer, record) = match follow::read(client, run_id, 0).await {
        Ok(read) => read,
        // Deleted by age meanwhile.
        Err(Failure::Refused(_)) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    if !asked_for(arguments, &record) {
        return Ok(());
    }
    if json {
        return line(answer.text());
    }
    line(lay_out_from(&[row(&record)], &WIDTHS).trim_end())
}

fn asked_for(arguments: &RunsArguments, record: &RunRecord) -> bool {
    arguments.status.is_none_or(|status| record.status == status)
        && arguments.mode.is_none_or(|mode| record.mode == mode)
        && arguments.label.iter().all(|(key, value)| record.labels.get(key) == Some(value))
}

/// The run that an event is about.
fn subject(data: &str) -> Option<RunId> {
    #[derive(Deserialize)]
    struct CloudEvent {
        subject: Option<String>,
    }
    serde_json::from_str::<CloudEvent>(data).ok()?.subject?.parse().ok()
}
