//! The phases of a run process, and what is awaited in them.

use std::pin::Pin;
use std::time::{Duration, Instant};

use void_ipc::channel::ChannelError;

use super::Verdict;
use crate::gateway::{Answer, Done, Pending};
use crate::pool::Lease;

/// The shortest sleep: the event loop's clock has no finer steps, and a guest that asks for less must not be able to keep
/// the service busy with it.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// Where a run process stands.
pub(super) enum Phase<'p> {
    /// The guest computes.
    Running,
    /// The guest waits for an answer. Nothing may be said meanwhile.
    Awaiting(Awaiting<'p>),
}

/// A call under way.
pub(super) struct Awaiting<'p> {
    pub(super) since: Instant,
    pub(super) stage: Stage<'p>,
}

/// How far it is.
pub(super) enum Stage<'p> {
    /// The gateway performs it.
    Performing(Pending),
    /// It is a sleep.
    Sleeping(Pin<Box<tokio::time::Sleep>>),
    /// The process does not take its answer as fast as it could be sent.
    Answering(Pin<Box<dyn Future<Output = Result<(), ChannelError>> + 'p>>),
}

/// What has come.
pub(super) enum Came {
    /// The gateway has performed the call.
    Performed(Done),
    /// The sleep is over.
    Slept,
    /// The process has taken its answer.
    Answered(Result<(), ChannelError>),
}

impl Phase<'_> {
    /// Waits for what the guest waits for; for ever where it does not wait.
    pub(super) async fn awaited(&mut self) -> Came {
        match self {
            Phase::Running => std::future::pending().await,
            Phase::Awaiting(awaiting) => match &mut awaiting.stage {
                Stage::Performing(pending) => Came::Performed(pending.done().await),
                Stage::Sleeping(sleep) => {
                    sleep.as_mut().await;
                    Came::Slept
                }
                Stage::Answering(sending) => Came::Answered(sending.as_mut().await),
            },
        }
    }

    /// Since when the guest has been waiting, where it does.
    pub(super) fn since(&self) -> Option<Instant> {
        match self {
            Phase::Running => None,
            Phase::Awaiting(awaiting) => Some(awaiting.since),
        }
    }
}

/// The phase of a guest that sleeps.
pub(super) fn sleeping<'p>(since: Instant, nanoseconds: u64) -> Phase<'p> {
    let time = Duration::from_nanos(nanoseconds).max(SHORTEST_SLEEP);
    Phase::Awaiting(Awaiting { since, stage: Stage::Sleeping(Box::pin(tokio::time::sleep(time))) })
}

/// Sends an answer, as far as the process takes it at once.
///
/// # Errors
/// The process spoke before it was answered, or is gone.
pub(super) fn answer(process: &Lease, since: Instant, answer: Answer) -> Result<Phase<'_>, Option<Verdict>> {
    match process.receive_now() {
        None => {}
        Some(Err(ChannelError::Closed)) => return Err(None),
        Some(Ok(_) | Err(_)) => return Err(Some(Verdict::Protocol)),
    }
    let mut messages = answer.into_messages();
    while let Some(message) = messages.next() {
        match process.send(&message) {
            Ok(()) => {}
            Err(error) if error.would_block() => {
                let sending = async move {
                    process.send_when_taken(&message).await?;
                    for message in messages {
                        process.send_when_taken(&message).await?;
                    }
                    Ok(())
                };
                return Ok(Phase::Awaiting(Awaiting { since, stage: Stage::Answering(Box::pin(sending)) }));
            }
            Err(error) => return Err(unsent(&error)),
        }
    }
    Ok(Phase::Running)
}

/// How a run ends whose answer could not be sent.
pub(super) fn unsent(error: &ChannelError) -> Option<Verdict> {
    match error {
        ChannelError::Closed => None,
        ChannelError::Io(_) | ChannelError::Codec(_) | ChannelError::Descriptors(_) => {
            tracing::error!(%error, "a guest could not be answered");
            Some(Verdict::Unanswered)
        }
    }
}
