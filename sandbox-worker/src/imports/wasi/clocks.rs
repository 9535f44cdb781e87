//! The clocks: the C library asks the vDSO, and where that cannot answer, the kernel.

use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Both clocks; the monotonic one begins with the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    started: Instant,
}

impl Clocks {
    /// From now.
    pub(super) fn start() -> Clocks {
        Clocks { started: Instant::now() }
    }

    /// Time since 1970, nanoseconds.
    pub(super) fn wall_ns(self) -> u64 {
        nanoseconds(HostWallClock::now(&self))
    }

    /// Time since the run began, nanoseconds.
    pub(super) fn monotonic_ns(self) -> u64 {
        nanoseconds(self.started.elapsed())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

// What clock_getres says where the kernel has high resolution timers. Asking would be a kernel syscall.
const RESOLUTION: Duration = Duration::from_nanos(1);

impl HostWallClock for Clocks {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        // A machine whose clock stands before 1970 is told that it is 1970.
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

impl HostMonotonicClock for Clocks {
    fn resolution(&self) -> u64 {
        nanoseconds(RESOLUTION)
    }

    fn now(&self) -> u64 {
        self.monotonic_ns()
    }
}
