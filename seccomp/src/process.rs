//! What a process says of itself to the kernel: its name, its death, its privileges, its peers.

use std::io;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::sys;

/// Sets the name that `ps` shows, at most 15 bytes.
///
/// # Errors
/// The kernel's.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// Whether other processes of this user may look into this one (ptrace, `/proc`).
///
/// # Errors
/// The kernel's.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    Ok(prctl::set_dumpable(dumpable)?)
}

/// Ends this process when the thread that started it ends.
///
/// # Errors
/// The kernel's.
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// No new privileges, not dumpable, dies with its parent, no transparent huge pages.
///
/// # Errors
/// The kernel's, naming the step.
pub fn restrict() -> Result<(), (&'static str, io::Error)> {
    let step = |name: &'static str| move |errno: nix::errno::Errno| (name, io::Error::from(errno));
    prctl::set_no_new_privs().map_err(step("no_new_privs"))?;
    set_dumpable(false).map_err(|error| ("dumpable", error))?;
    die_with_parent().map_err(|error| ("parent death signal", error))?;
    // A huge page would be copied whole after a fork.
    prctl::set_thp_disable(true).map_err(step("transparent huge pages"))
}

/// Restricts speculation for good: store bypass and indirect branches.
///
/// A processor that is not affected, or where the setting is fixed for all, is as good as a yes.
///
/// # Errors
/// The kernel's.
pub fn restrict_speculation() -> io::Result<()> {
    const STORE_BYPASS: u64 = 0;
    const INDIRECT_BRANCH: u64 = 1;
    const FORCE_DISABLE: u64 = 8;
    for kind in [STORE_BYPASS, INDIRECT_BRANCH] {
        match sys::prctl(libc::PR_SET_SPECULATION_CTRL, [kind, FORCE_DISABLE, 0, 0]) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EPERM | libc::ENODEV)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts this process, and those that it forks, on one processor.
///
/// # Errors
/// The kernel's, when there is no such processor for us.
pub fn stay_on(cpu: u16) -> io::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(usize::from(cpu))?;
    Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?)
}

/// The processors on which this process may run.
///
/// # Errors
/// The kernel's.
pub fn processors() -> io::Result<Vec<u16>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..u16::try_from(nix::sched::CpuSet::count()).unwrap_or(u16::MAX))
        .filter(|cpu| set.is_set(usize::from(*cpu)).unwrap_or(false))
        .collect())
}

/// Asks for short turns on the processor for this thread (100 µs): it then preempts what computes.
///
/// # Errors
/// The kernel's; before Linux 6.12 the request has no effect.
pub fn take_short_turns() -> io::Result<()> {
    sys::short_slice(100_000)
}

/// Has another process of ours give way to those with a lower `nice`, from 0 (as everyone) to 19. There is no way back
/// without privileges.
///
/// # Errors
/// The kernel's; a process that is gone is one.
pub fn give_way(pid: i32, nice: u8) -> io::Result<()> {
    sys::set_nice(pid, i32::from(nice.min(19)))
}
