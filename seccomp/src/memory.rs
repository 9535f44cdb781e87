//! Memory: code that cannot change, memory that cannot become code, and places that make a fork cheap.

use std::io;
use std::ops::Range;

use crate::sys;

/// Seals the mappings of loaded machine code (mseal, Linux 6.10), then forbids that any memory
/// becomes executable (memory-deny-write-execute, Linux 6.3). Both outlive a fork.
///
/// # Errors
/// The kernel's, naming the step.
pub fn seal(code: &[Range<*const u8>]) -> Result<(), (&'static str, io::Error)> {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    let sealed = code.iter().try_for_each(|range| {
        sys::seal(range.start, range.end.addr() - range.start.addr()).map_err(|error| ("mseal", error))
    });
    // An older kernel may have the second without the first: where that is allowed to be too little, it is better than neither.
    let denied = sys::prctl(PR_SET_MDWE, [PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0])
        .map_err(|error| ("memory-deny-write-execute", error));
    sealed.and(denied).map(drop)
}

/// Goes on in `main` with `value`, on a stack that lies beside the program's data: see `sys/stack.rs`.
///
/// # Errors
/// The kernel's, where it gives no memory for one; `main` has not been called then.
pub fn on_own_stack<T>(
    value: Box<T>,
    main: extern "C" fn(Box<T>) -> !,
) -> io::Result<std::convert::Infallible> {
    sys::on_own_stack(value, main)
}

/// Moves this program's own code and constants onto huge pages of its own. A mapping of a file is not copied by a fork, so that each
/// run process would fault in every page of the engine that it executes, which costs more than most guests; a few huge
/// pages are copied as so many words. They are not shared with other zygotes: three of 2 MiB each, since the worker holds WASI.
///
/// # Errors
/// The kernel's, or that the program is not linked for it (see `xtask/src/build.rs`); what was not moved is as it was.
pub fn hold_own_code_ready() -> io::Result<()> {
    sys::own_parts().iter().try_for_each(sys::onto_huge_pages)
}
