//! Where a run stands.

crate::words::words! {
    /// The `status` of a run record.
    Status {
        /// Stored, not started.
        Accepted = "accepted",
        /// Started, not ended.
        Running = "running",
        /// Ended as it should.
        Finished = "finished",
        /// Ended otherwise; the record has a reason.
        Error = "error",
        /// Ended by request.
        Cancelled = "cancelled",
        /// Accepted during a freeze: never executed, also not after the thaw.
        Frozen = "frozen",
    }
}

impl Status {
    /// Whether the record will not change any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Accepted | Self::Running => false,
            Self::Finished | Self::Error | Self::Cancelled | Self::Frozen => true,
        }
    }
}
