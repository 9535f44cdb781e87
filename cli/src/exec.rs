//! `void-wasm exec`: one run, from the command line to its result.

use std::process::ExitCode;

use hyper::Method;
use serde_json::value::RawValue;
use void_api::{Accepted, Mode, Reason, RunRecord};

use crate::arguments::ExecArguments;
use crate::client::{Answer, Call, Client};
use crate::failure::Failure;
use crate::follow;
use crate::interrupt::Interrupt;
use crate::output::{hint, line, note};
use crate::report;
use crate::request::Body;
use crate::target::{Sent, Target};

/// Seconds that a run by digest is looked at, without --wait: no manifest has the digest is known at once.
const GLANCE_SECONDS: u64 = 2;

/// Executes, and with `--wait` follows.
pub(crate) async fn run(
    client: &mut Client,
    arguments: Box<ExecArguments>,
    call: Vec<Box<RawValue>>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let target = Target::parse(&arguments.target)?;
    // Put together before anything is sent: what is wrong here needs no service to be found.
    let checked = Body::new(&arguments, call, &target, Sent::Cid(String::new()))?;
    checked.to_json()?;
    let mut body = checked.of(target.send(client).await?);
    // Listened to from before the request is sent, so that no run is left behind that Ctrl-C was to end.
    let mut interrupt =
        if arguments.wait { Some(Interrupt::new(arguments.cancel_on_interrupt)?) } else { None };
    let mut sent = submit(client, &body, interrupt.as_mut()).await?;
    if !arguments.wait && !matches!(target, Target::Digest(_)) {
        return accepted(&sent, json);
    }
    loop {
        let run_id = sent.1.run_id;
        let (answer, record) = match &mut interrupt {
            Some(interrupt) => follow::unless_interrupted(client, run_id, interrupt).await?,
            None => follow::read(client, run_id, GLANCE_SECONDS).await?,
        };
        match is_unknown_ast_hash(&record).then(|| body.by_bytes()).flatten() {
            Some(by_bytes) => {
                body = by_bytes;
                sent = submit(client, &body, interrupt.as_mut()).await?;
            }
            None if arguments.wait => return report::ended(&answer, &record, json),
            None => break,
        }
    }
    accepted(&sent, json)
}

async fn submit(
    client: &mut Client,
    body: &Body,
    interrupt: Option<&mut Interrupt>,
) -> Result<(Answer, Accepted), Failure> {
    let call = Call::with_body(Method::POST, "/v1/exec", Some(("application/json", body.to_json()?)));
    let answer = match interrupt {
        Some(interrupt) => interrupt.before_acceptance(client.call(call)).await,
        None => client.call(call).await,
    };
    let answer = answer.map_err(|failure| match failure {
        Failure::Unreachable(reason) if !body.has_key() => Failure::Unreachable(format!(
            "{reason}; with --idempotency-key KEY the same command can be given again without running twice"
        )),
        other => other,
    })?;
    let accepted: Accepted = answer.read()?;
    if let Some(warning) = &accepted.warning {
        note(&format!("void-wasm: {warning}"));
    }
    if accepted.mode == Mode::Cached {
        hint(&format!("{} is the run of an earlier request with this key", accepted.run_id));
    }
    Ok((answer, accepted))
}

/// Whether no manifest lists the AST hash. Where one does, the service speaks of the CID that it gave.
fn is_unknown_ast_hash(record: &RunRecord) -> bool {
    record.reason == Some(Reason::ModuleNotFound)
        && record.error.as_deref().is_some_and(|error| error.starts_with("no source has AST hash"))
}

fn accepted((answer, accepted): &(Answer, Accepted), json: bool) -> Result<ExitCode, Failure> {
    if json {
        line(answer.text())?;
    } else {
        line(&accepted.run_id.to_string())?;
        hint(&format!(
            "accepted ({}); `void-wasm runs {} --follow` waits for its result",
            accepted.mode, accepted.run_id
        ));
    }
    // Also a frozen run was accepted, as its warning on stderr says.
    Ok(ExitCode::SUCCESS)
}
