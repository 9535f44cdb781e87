//! The user's Ctrl-C while a run is sent and followed.

use std::future::Future;
use std::time::Duration;

use hyper::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};
use void_api::RunId;

use crate::client::{Call, Client};
use crate::failure::Failure;

/// How long the service may hold up the user who pressed Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens from its making on: a Ctrl-C that comes between two waits is not lost.
pub(crate) struct Interrupt {
    signal: Signal,
    cancel: bool,
    pressed: bool,
}

impl Interrupt {
    /// With `cancel` the run ends with the command.
    pub(crate) fn new(cancel: bool) -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt())
            .map_err(|error| Failure::Local(format!("signals cannot be listened to: {error}")))?;
        Ok(Self { signal, cancel, pressed: false })
    }

    /// Returns at the first Ctrl-C; at once where it came before.
    pub(crate) async fn wait(&mut self) {
        if !self.pressed {
            self.signal.recv().await;
            self.pressed = true;
        }
    }

    /// Waits for the answer that names the run. Where the run is to end with the command, Ctrl-C gives the answer a
    /// moment more: only a run whose name is known can be cancelled.
    pub(crate) async fn before_acceptance<T>(
        &mut self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer,
            () = self.wait() => {}
        }
        let unknown = || {
            Failure::Interrupted(
                ": whether the run was accepted is not known; `void-wasm runs` lists those that were"
                    .to_owned(),
            )
        };
        if !self.cancel {
            return Err(unknown());
        }
        tokio::select! {
            answer = tokio::time::timeout(PATIENCE, answer) => answer.unwrap_or_else(|_| Err(unknown())),
            _ = self.signal.recv() => Err(unknown()),
        }
    }

    /// What becomes of the run: it is cancelled, or left to go on.
    pub(crate) async fn end(&mut self, client: &mut Client, run_id: RunId) -> Failure {
        if !self.cancel {
            return Failure::Interrupted(format!(
                ": the run goes on; `void-wasm runs {run_id} --follow` follows it again, `void-wasm cancel {run_id}` ends it"
            ));
        }
        let path = format!("/v1/runs/{run_id}/cancel");
        let call = Call { patience: PATIENCE, ..Call::with_body(Method::POST, &path, None) };
        let outcome = tokio::select! {
            outcome = client.call(call) => outcome,
            _ = self.signal.recv() => {
                return Failure::Interrupted(format!(": whether {run_id} was cancelled is not known"));
            }
        };
        Failure::Interrupted(match outcome {
            Ok(_) => format!(": {run_id} is cancelled"),
            Err(failure) => format!(": {run_id} could not be cancelled: {failure}"),
        })
    }
}
