//! Waiting for a condition with a deadline. A test never sleeps for a fixed time and hopes.

use std::time::{Duration, Instant};

/// Between two looks. Short against every deadline, long enough to leave the CPU to what is being waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(4);

/// Waits until `condition` holds; panics with `what` when it does not within `within`.
#[track_caller]
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    eventually_some(what, within, || condition().then_some(()));
}

/// Waits until `look` finds something and returns it; panics with `what` when it does not within `within`.
#[track_caller]
pub fn eventually_some<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}
