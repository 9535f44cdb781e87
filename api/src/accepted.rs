//! The answer to an accepted `POST /v1/exec`.

use serde::{Deserialize, Serialize};

use crate::{Mode, RunId};

/// `202 Accepted`, or `200` for a repeated request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Accepted {
    /// The run, or the first run of a repeated request.
    pub run_id: RunId,
    /// Always true: a refusal is a [`crate::Problem`].
    #[cfg_attr(feature = "schema", schemars(description = "Always true.", extend("const" = true)))]
    pub accepted: bool,
    /// How it was admitted.
    pub mode: Mode,
    /// What the client should know, such as that the run will not execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub warning: Option<String>,
}

impl Accepted {
    /// The answer for `mode`, with the warning that belongs to it.
    #[must_use]
    pub fn new(run_id: RunId, mode: Mode) -> Self {
        let warning = (mode == Mode::Frozen).then(|| {
            "execution is frozen: this run is recorded and will never execute; send it again later".into()
        });
        Self { run_id, accepted: true, mode, warning }
    }
}
