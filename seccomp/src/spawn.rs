//! Starting a worker: a process in namespaces of its own, under a user of its own, executed afresh.
//!
//! For the spawner alone, which is single-threaded and lives as long as the supervisor's main thread.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use void_ipc::message::Refused;

use crate::lockdown::plain;
use crate::means::{Means, no_namespaces};
use crate::namespaces::Identity;
use crate::{limits, process, sys};

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program's file, opened beforehand.
    pub file: BorrowedFd<'a>,
    /// What it finds as its name (`argv[0]`).
    pub name: &'a CStr,
    /// What it finds as descriptors 3, 4 and 5. 0, 1 and 2 are what ours are.
    pub descriptors: [BorrowedFd<'a>; 3],
    /// The process that starts it, as [`prepare`] gave it.
    pub starter: BorrowedFd<'a>,
    /// Who it is outside its user namespace.
    pub identity: Identity,
    /// What of all that the kernel grants.
    pub means: &'a Means,
}

/// Prepares this process to start others: a session of its own, no zombies, death with the parent. Gives a descriptor
/// that refers to this process, by which those it starts see that it lives.
///
/// # Errors
/// The kernel's, or that the parent `parent` is gone already.
pub fn prepare(parent: i32) -> io::Result<OwnedFd> {
    process::die_with_parent()?;
    if nix::unistd::getppid().as_raw() != parent {
        return Err(io::Error::other("the supervisor is gone"));
    }
    // A terminal's Ctrl-C is for the supervisor, which drains; its workers must not be gone by then.
    nix::unistd::setsid().ok();
    process::set_dumpable(false)?;
    sys::set_disposition(libc::SIGCHLD, true)?;
    sys::open_process(nix::unistd::getpid().as_raw())
}

/// Starts `program`. Returns in the parent alone; the child executes, or reports through `report` and ends.
///
/// # Errors
/// What was refused, where the parent sees it.
pub fn start(program: &Program<'_>, report: impl Fn(Refused)) -> Result<i32, Refused> {
    let (mut ours, mut theirs) = UnixStream::pair().map_err(|error| no_namespaces(plain(error)))?;
    let pid = sys::clone(program.means.flags()).map_err(|error| no_namespaces(format!("clone: {error}")))?;
    if pid == 0 {
        drop(ours);
        let refused = become_worker(program, &mut theirs);
        report(refused);
        sys::exit(1);
    }
    drop(theirs);
    let mut byte = [0];
    // The child is dumpable now, so that its maps are ours to write.
    if ours.read_exact(&mut byte).is_ok()
        && let Err(refused) = program.means.map(pid, program.identity)
        && !has_died(pid)
    {
        // Without the byte the child ends by itself.
        return Err(refused);
    }
    // A child that somebody killed was refused nothing: its death shows at its socket.
    let _ = ours.write_all(&byte);
    Ok(pid)
}

fn has_died(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH)
}

fn become_worker(program: &Program<'_>, parent: &mut UnixStream) -> Refused {
    let mut byte = [0];
    let ready = process::set_dumpable(true)
        .and_then(|()| parent.write_all(&byte))
        .and_then(|()| parent.read_exact(&mut byte));
    if ready.is_err() {
        // The parent has said why.
        sys::exit(1);
    }
    if let Err(refused) = program.means.settle(program.identity) {
        return refused;
    }
    // A change of identity undoes it, so not before. One whose starter died earlier would live on.
    if process::die_with_parent().is_err() || has_ended(program.starter) {
        sys::exit(1);
    }
    match execute(program) {
        Ok(never) => match never {},
        Err(error) => no_namespaces(format!("exec: {error}")),
    }
}

/// Whether the process behind a descriptor is gone: then there is something to read.
fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO) != Ok(0)
}

fn execute(program: &Program<'_>) -> io::Result<std::convert::Infallible> {
    sys::set_disposition(libc::SIGCHLD, false)?;
    // First out of the way of their own targets, then into place.
    let mut lifted = Vec::new();
    for descriptor in program.descriptors {
        lifted.push(lift(descriptor)?);
    }
    let file = lift(program.file)?;
    for (descriptor, number) in lifted.iter().zip(3..) {
        sys::place(descriptor.as_fd(), number)?;
    }
    sys::close_on_exec_from(6)?;
    limits::without_break()?;
    let words = program.means.words();
    let arguments: Vec<&CStr> =
        std::iter::once(program.name).chain(words.iter().map(|word| word.as_c_str())).collect();
    Err(sys::execute(file.as_fd(), &arguments))
}

fn lift(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(16))?;
    Ok(sys::inherited(number))
}
