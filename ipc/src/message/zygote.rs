//! The messages to and from a zygote.

use super::Refused;
use crate::codec::{Decode, Encode};

/// To a zygote.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToZygote {
    /// The first message, already waiting when the process starts.
    Setup(Setup),
    /// Fork a run process for each of these slots. As many descriptors travel with it: the runs' sockets.
    Fork {
        /// At most [`crate::limits::FORKS`]; each below [`crate::limits::SLOTS`] and free at that moment.
        slots: Vec<u8>,
    },
    /// Report which run processes have ended.
    Reap,
}

/// How a zygote is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Setup {
    /// Linear memory that any run of this zygote may have, 64 KiB pages: the hard cap is made of it.
    pub mem_pages_max: u32,
    /// CPU time after which the kernel ends a run process whatever else happens, seconds.
    pub cpu_seconds_max: u32,
    /// Processor to stay on, and its run processes with it, where there is one.
    pub cpu: Option<u16>,
    /// Go on where the kernel refuses a layer.
    pub allow_weaker: bool,
    /// Its run processes may serve one run after the other, each in an instance of its own.
    pub reuse: bool,
}

/// From a zygote. Hostile like all that comes upward, though nothing of a run was ever in it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromZygote {
    /// Locked down and loaded; forks are welcome.
    Ready {
        /// Layers that were refused (only with `allow_weaker`).
        missing: Vec<Refused>,
        /// Its run processes serve one run after the other (only with `reuse`, and where the module lends itself to it).
        reuse: bool,
    },
    /// It could not get ready because a layer was refused; the process ends.
    Refused(Refused),
    /// It could not get ready because of the module; the process ends.
    Unloadable(Unloadable),
    /// The fork failed; the slot is free again.
    ForkFailed {
        /// Which.
        slot: u8,
        /// The kernel's error number.
        errno: i32,
    },
    /// These run processes have been reaped; their slots are free again. Those that ended as they should may be
    /// reported late and together, all others are at the next order.
    Exited(Vec<Exited>),
}

/// A run process that has been reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Exited {
    /// Which.
    pub slot: u8,
    /// As `wait4` gives it.
    pub status: i32,
    /// User and system time of its whole life, nanoseconds.
    pub cpu_ns: u64,
}

/// Why a module cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Unloadable {
    /// Its memories or tables are larger at the start than any run may have.
    Memory(String),
    /// Instantiation traps before any guest code runs (a segment out of bounds).
    Trap(String),
    /// It imports something that is not offered.
    Import(String),
    /// Anything else: the engine refuses the code.
    Engine(String),
}
