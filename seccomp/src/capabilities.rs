//! Capabilities: none in any set, and no way to gain one.

use std::io;

use crate::sys;

/// The bits of `prctl(PR_SET_SECUREBITS)`: root is nobody special, setuid fixes nothing up, capabilities
/// are not kept, the ambient set stays empty; each with its lock. See capabilities(7).
const SECUREBITS: u64 = 0b1110_1111;

/// Locks the securebits and empties the bounding, ambient, inheritable, permitted and effective sets.
///
/// # Errors
/// The kernel's, without `CAP_SETPCAP`.
pub fn drop_all() -> io::Result<()> {
    // KEEP_CAPS itself (bit 4) stays off, only its lock (bit 5) is set.
    sys::prctl(libc::PR_SET_SECUREBITS, [SECUREBITS, 0, 0, 0])?;
    for set in [
        caps::CapSet::Bounding,
        caps::CapSet::Ambient,
        caps::CapSet::Effective,
        caps::CapSet::Inheritable,
        caps::CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}
