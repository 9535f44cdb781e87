//! How a request was admitted, as the client is told.

crate::words::words! {
    /// The `mode` of a run, or of the answer to a request.
    Mode {
        /// Every run executes.
        Live = "live",
        /// Chosen by the canary share: executes.
        Canary = "canary",
        /// Not chosen: all checks, no execution.
        DryRun = "dry-run",
        /// Accepted during a freeze: never executed.
        Frozen = "frozen",
        /// The answer to a repeated request: an earlier run. No record has this mode.
        Cached = "cached",
    }
}

impl Mode {
    /// Whether the guest's code runs.
    #[must_use]
    pub const fn executes(self) -> bool {
        matches!(self, Self::Live | Self::Canary)
    }
}
