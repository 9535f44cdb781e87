//! Resource limits. Those of a worker are zero wherever zero can be.

use std::io;

use rlimit::Resource;

/// The limits that differ from process to process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Private writable memory, bytes: the real cap on memory. The address space cannot be it, for
    /// an engine reserves 4 GiB for each guest memory and commits pages as the guest grows.
    pub data_bytes: u64,
    /// CPU time, seconds. The soft limit is the hard one: the first process of a pid namespace would
    /// ignore the soft one's signal.
    pub cpu_seconds: u64,
    /// Seconds between the soft and the hard CPU limit, for a process that handles the soft one's signal.
    pub cpu_grace_seconds: u64,
    /// Largest file that may be written, bytes.
    pub file_bytes: u64,
}

/// Lets this process have as many descriptors as the kernel grants it: each connection, worker and piece of machine code
/// takes one, and the usual soft limit is there for programs that use `select`.
///
/// # Errors
/// The kernel's.
pub fn raise_descriptors() -> io::Result<()> {
    let hard = Resource::NOFILE.get_hard()?;
    Resource::NOFILE.set(hard, hard)
}

/// Has the program that is executed next begin without the kernel's classic heap (`brk`). A statically linked one puts
/// its thread's own data there, far from all else, which each fork then pays for (see `sys/heap.rs`). A soft limit of
/// zero refuses `brk` alone: the kernel lets mappings pass up to the hard one. [`set`] ends it.
///
/// # Errors
/// The kernel's.
pub(crate) fn without_break() -> io::Result<()> {
    let hard = Resource::DATA.get_hard()?;
    Resource::DATA.set(0, hard)
}

/// Sets the limits of a worker.
///
/// # Errors
/// The kernel's: a limit can be lowered but not raised.
pub fn set(limits: Limits) -> io::Result<()> {
    let equal = [
        (Resource::CORE, 0),
        (Resource::FSIZE, limits.file_bytes),
        (Resource::MEMLOCK, 0),
        (Resource::MSGQUEUE, 0),
        // What loading a module may take; `set_last` leaves what forking takes.
        (Resource::NOFILE, 128),
        (Resource::SIGPENDING, 64),
        (Resource::DATA, limits.data_bytes),
    ];
    for (resource, value) in equal {
        resource.set(value, value)?;
    }
    Resource::CPU.set(limits.cpu_seconds, limits.cpu_seconds + limits.cpu_grace_seconds)
}

/// The limits that are set when everything is loaded: processes of this user in its namespace, where it has one or the user
/// is its own, and descriptors: three streams, the socket, and those that are received before they are put in its place.
///
/// # Errors
/// The kernel's.
pub fn set_last(processes: Option<u64>) -> io::Result<()> {
    let descriptors = 4 + void_ipc::limits::FORKS as u64;
    Resource::NOFILE.set(descriptors, descriptors)?;
    processes.map_or(Ok(()), |processes| Resource::NPROC.set(processes, processes))
}
