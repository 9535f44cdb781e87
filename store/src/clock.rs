//! The time that ages are measured by: the wall clock at the start, then the steady clock. A wall clock that jumps
//! while the service runs makes nothing old.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that does not jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base_ms: u64,
    since: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base_ms: wall.as_millis() as u64, since: Instant::now() }
    }

    /// Unix time in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms.saturating_add(self.since.elapsed().as_millis() as u64)
    }
}
