//! What a client is told when its run is not accepted: the sentences, and nothing that decides.

use void_api::{Problem, ProblemCode, RunId};

use crate::slots::Full;

/// The refusal while the master switch is off.
pub(crate) fn disabled() -> Problem {
    Problem::new(
        ProblemCode::Disabled,
        "execution is switched off here: ask the operator to set WASM_EXEC_ENABLED=1 and to reload",
    )
}

pub(super) fn draining() -> Problem {
    Problem::new(ProblemCode::Draining, "the service is stopping: send the request to another one")
}

pub(super) fn mismatch(run_id: RunId) -> Problem {
    let detail =
        "this idempotency key belongs to another request: use a new key, or send the first request again";
    Problem::new(ProblemCode::IdempotencyMismatch, detail).about(run_id)
}

pub(super) fn queue_full(full: Full) -> Problem {
    let Full { waiting, seconds } = full;
    Problem::new(
        ProblemCode::QueueFull,
        format!("{waiting} runs wait already, as many as may: try again after the time in Retry-After"),
    )
    .again_after(seconds)
}

pub(super) fn unavailable(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "the store or the kernel refused");
    Problem::new(
        ProblemCode::Unavailable,
        "the service cannot store runs now: try again, and tell its operator",
    )
}
