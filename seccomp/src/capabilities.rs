//! Capabilities: none in any set, and no way to gain one.

use std::io;

use crate::sys;

/// The bits of `prctl(PR_SET_SECUREBITS)`: root is nobody special, setuid fixes nothing up, capabilities
/// are not kept, the ambient set stays empty; each with its lock. See capabilities(7).
const SECUREBITS: u64 = 0b1110_1111;

/// Locks the securebits and empties the bounding, ambient, inheritable, permitted and effective sets. What is refused keeps
/// nothing else from being taken on.
///
/// # Errors
/// The kernel's first, without `CAP_SETPCAP` for one.
pub fn drop_all() -> io::Result<()> {
    let locked = lock();
    let cleared =
        [caps::CapSet::Ambient, caps::CapSet::Effective, caps::CapSet::Inheritable, caps::CapSet::Permitted]
            .map(clear);
    cleared.into_iter().fold(locked, io::Result::and)
}

/// The first half of [`drop_all`], which needs the capability that the second half gives up: what is locked and bounded
/// already is not asked for again.
///
/// # Errors
/// The kernel's first.
pub(crate) fn lock() -> io::Result<()> {
    // KEEP_CAPS itself (bit 4) stays off, only its lock (bit 5) is set.
    let held = sys::prctl(libc::PR_GET_SECUREBITS, [0; 4]);
    let locked = match held {
        Ok(bits) if u64::try_from(bits) == Ok(SECUREBITS) => Ok(()),
        _ => sys::prctl(libc::PR_SET_SECUREBITS, [SECUREBITS, 0, 0, 0]).map(drop),
    };
    let bounded = clear(caps::CapSet::Bounding);
    locked.and(bounded)
}

fn clear(set: caps::CapSet) -> io::Result<()> {
    caps::clear(None, set).map_err(|error| io::Error::other(error.to_string()))
}
