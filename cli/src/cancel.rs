//! `void-wasm cancel`: ends a run.

use std::process::ExitCode;

use hyper::Method;
use void_api::{RunId, RunRecord};

use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::output::line;

/// Cancels a run and prints where it stands.
pub(crate) async fn run(client: &mut Client, run_id: RunId, json: bool) -> Result<ExitCode, Failure> {
    let path = format!("/v1/runs/{run_id}/cancel");
    let answer = client.call(Call::with_body(Method::POST, &path, None)).await?;
    if json {
        line(answer.text())?;
    } else {
        let record: RunRecord = answer.read()?;
        line(&format!("{run_id} {}", record.status))?;
    }
    Ok(ExitCode::SUCCESS)
}
