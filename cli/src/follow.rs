//! Following a run to its end, through a service that may be restarted meanwhile.

use std::time::{Duration, Instant};

use void_api::{RunId, RunRecord};

use crate::client::{Answer, Call, Client, PROMPT};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Progress;

/// Seconds that one request asks the service to wait.
const WAIT_SECONDS: u64 = 30;
/// How long a service may be gone until the command gives up: a restart takes less.
const GONE: Duration = Duration::from_secs(10);
/// Between two requests to a service that is gone, or that answers at once.
const PAUSE: Duration = Duration::from_millis(250);

/// Waits for the end of a run. The answer is the record's.
pub(crate) async fn to_the_end(client: &mut Client, run_id: RunId) -> Result<(Answer, RunRecord), Failure> {
    let progress = Progress::start();
    progress.say(run_id.to_string());
    let mut answered = Instant::now();
    loop {
        let asked = Instant::now();
        match read(client, run_id, WAIT_SECONDS).await {
            Ok((answer, record)) if record.status.is_terminal() => return Ok((answer, record)),
            Ok((_, record)) => {
                answered = Instant::now();
                progress.say(format!("{run_id} {}", record.status));
                if asked.elapsed() < PAUSE {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(failure @ (Failure::Unreachable(_) | Failure::TryAgain(..))) => {
                if answered.elapsed() > GONE {
                    return Err(give_up(run_id, failure));
                }
                progress.say(format!("{run_id}: the service does not answer, trying again"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// As [`to_the_end`], until the user presses Ctrl-C; then the run is cancelled, or left to go on.
pub(crate) async fn unless_interrupted(
    client: &mut Client,
    run_id: RunId,
    interrupt: &mut Interrupt,
) -> Result<(Answer, RunRecord), Failure> {
    tokio::select! {
        outcome = to_the_end(client, run_id) => return outcome,
        () = interrupt.wait() => {}
    }
    Err(interrupt.end(client, run_id).await)
}

/// The record as it is within `wait` seconds.
pub(crate) async fn read(
    client: &mut Client,
    run_id: RunId,
    wait: u64,
) -> Result<(Answer, RunRecord), Failure> {
    let path =
        if wait == 0 { format!("/v1/runs/{run_id}") } else { format!("/v1/runs/{run_id}?wait={wait}") };
    let answer =
        client.call(Call { patience: PROMPT + Duration::from_secs(wait), ..Call::get(&path) }).await?;
    let record = answer.read()?;
    Ok((answer, record))
}

fn give_up(run_id: RunId, failure: Failure) -> Failure {
    match failure {
        Failure::Unreachable(reason) => Failure::Unreachable(format!(
            "{reason}; no accepted run is lost: once the service is back, `void-wasm runs {run_id} --follow` goes on"
        )),
        other => other,
    }
}
