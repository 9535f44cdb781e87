//! Every unsafe line of the project's kernel work, each as a small function that is safe to call.
//!
//! What a caller must still respect is said on the function. Nothing here decides.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_int, c_long, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

mod code;
mod guard;
mod heap;
mod near;
mod stack;
pub(crate) use code::{onto_huge_pages, own_parts};
pub use guard::Secret;
pub use near::Near;
pub(crate) use stack::{give_back, on_own_stack, signal_stack};

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes ownership of a descriptor that this process was started with.
///
/// Call it at most once for each number, at the start of `main`: the number must be open and nobody
/// else's. A number that is not open gives an `OwnedFd` on which every call fails with `EBADF`.
pub fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the roles' `main` functions own the descriptors that the spawner placed, and call this once for each.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Ends the process at once: no destructor, no exit handler, one kernel syscall.
pub fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(code) }
}

/// `prctl` with integer arguments only.
pub(crate) fn prctl(option: c_int, arguments: [c_ulong; 4]) -> io::Result<c_long> {
    let [second, third, fourth, fifth] = arguments;
    // SAFETY: callers in this crate use options whose arguments are integers, never pointers.
    check(c_long::from(unsafe { libc::prctl(option, second, third, fourth, fifth) }))
}

/// A new process in new namespaces. 0 in the child.
///
/// Only for a single-threaded process (the spawner): the child is a copy of the calling thread alone.
pub(crate) fn clone(flags: c_int) -> io::Result<i32> {
    let flags = (flags | libc::SIGCHLD) as c_ulong;
    // SAFETY: without CLONE_VM and with a null stack this is fork(2); the callers (spawner, zygote) are single-threaded,
    // so no lock can be held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) })?;
    i32::try_from(pid).map_err(io::Error::other)
}

/// Replaces this process by the program behind `program`, with nothing in its environment but a word to the C library:
/// not to register for restartable sequences, which cost every run process a page and a write at each turn.
pub(crate) fn execute(program: BorrowedFd<'_>, arguments: &[&CStr]) -> io::Error {
    let mut arguments: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    arguments.push(std::ptr::null());
    let environment = [c"GLIBC_TUNABLES=glibc.pthread.rseq=0".as_ptr(), std::ptr::null()];
    // SAFETY: both arrays are null-terminated and outlive the call; the path is the empty string that AT_EMPTY_PATH asks for.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Makes every descriptor from `first` on close at exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now, it only sets flags.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as c_ulong)
    })
    .map(drop)
}

/// Closes every descriptor from `first` on, whoever holds it.
///
/// What held one of them must never use or drop it: the caller's process only forks and exits from here on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the callers (a worker that has loaded everything) leave through `_exit`, so no `OwnedFd` is dropped.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0 as c_ulong) }).map(drop)
}

/// Puts `from` at number `to`, inheritable, closing what was there.
///
/// The caller must not hold an `OwnedFd` for `to` that it goes on using as what it was.
pub(crate) fn place(from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
    // SAFETY: dup2 touches descriptors only; what owned `to` is replaced on purpose (spawn, fork).
    check(c_long::from(unsafe { libc::dup2(from.as_raw_fd(), to) })).map(drop)
}

/// Installs a filter on this thread, for good. Needs no_new_privs.
pub(crate) fn install_filter(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: c_ulong = 1;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `length` instructions that outlive the call; seccompiler's sock_filter is the
    // kernel's struct (repr(C)), and the kernel only reads it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0usize, &raw const program) })
        .map(drop)
}

/// A word that the kernel gave this program at its start, 0 where it gave none.
fn auxiliary(name: c_ulong) -> usize {
    // SAFETY: `getauxval` reads a table of the process.
    unsafe { libc::getauxval(name) as usize }
}

/// Overwrites a word for good, though nobody reads it again.
pub(crate) fn wipe(word: &mut u32) {
    // SAFETY: a valid, exclusive reference. Volatile, because a plain write of what is about to be freed is optimised away.
    unsafe { std::ptr::write_volatile(word, 0) };
}

/// Makes a range of mappings immutable: no unmap, no change of protection.
pub(crate) fn seal(start: *const u8, length: usize) -> io::Result<()> {
    const SYS_MSEAL: c_long = 462;
    // SAFETY: sealing removes rights over the range and changes no byte of it.
    check(unsafe { libc::syscall(SYS_MSEAL, start, length, 0usize) }).map(drop)
}

/// Writes a whole packet to a descriptor by number. Async-signal-safe.
pub(crate) fn write_raw(descriptor: i32, bytes: &[u8]) -> bool {
    // SAFETY: the buffer is valid for its length; a bad number only fails.
    unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) == bytes.len().cast_signed() }
}

/// Calls `handler` on `signal`. Restarts interrupted calls.
///
/// `handler` must be async-signal-safe: no allocation, no lock.
pub(crate) fn on_signal(signal: c_int, handler: extern "C" fn(c_int)) -> io::Result<()> {
    // SAFETY: sigaction is plain data, for which all zeroes is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: `action` is fully set and outlives the call; the handlers in this crate are async-signal-safe.
    check(c_long::from(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })).map(drop)
}

/// Sets a signal to ignored or default.
pub(crate) fn set_disposition(signal: c_int, ignore: bool) -> io::Result<()> {
    let to = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: SIG_IGN and SIG_DFL run no code.
    if unsafe { libc::signal(signal, to) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor that refers to a process, whatever becomes of its number.
pub(crate) fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers.
    let descriptor = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0usize) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Sends SIGKILL to the process behind `process`.
pub(crate) fn kill_process(process: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers and a null pointer, which pidfd_send_signal takes as "no siginfo".
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, 0usize, 0usize)
    })
    .map(drop)
}

/// CPU time that a process has used, all threads, user and system.
pub(crate) fn cpu_time(pid: i32) -> io::Result<Duration> {
    // The encoding of clock_getcpuclockid(3): the pid's complement and the clock "scheduler".
    let clock = (!pid << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call; an unknown clock only fails.
    check(c_long::from(unsafe { libc::clock_gettime(clock, &raw mut time) }))?;
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// What lies unread at the other end of a Unix socket, in bytes of kernel memory.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ by its other name) writes one int, which outlives the call.
    check(c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }))?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Asks for short turns on the processor: a thread that wakes up often and works little preempts those that compute.
pub(crate) fn short_slice(nanoseconds: u64) -> io::Result<()> {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: nanoseconds,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the struct is the kernel's sched_attr version 0, its size said in it, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0usize, &raw const attributes, 0usize) }).map(drop)
}

/// Lowers the turn of another process on the processor, from 0 (as everyone) to 19.
pub(crate) fn set_nice(pid: i32, nice: c_int) -> io::Result<()> {
    let pid = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: setpriority takes integers; a number that is nobody's only fails.
    check(c_long::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, pid, nice) })).map(drop)
}

static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LAST_WORDS_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// An allocator that, out of memory, writes prepared words to descriptor 3 and ends the process.
///
/// For the compiler: what it compiles decides how much memory it needs, and running out is an answer, not a crash.
#[derive(Debug)]
pub struct ExitWhenOutOfMemory;

impl ExitWhenOutOfMemory {
    /// Prepares the words. They are kept for the life of the process.
    pub fn prepare(words: Vec<u8>) {
        let words = Vec::leak(words);
        LAST_WORDS_LENGTH.store(words.len(), Ordering::Relaxed);
        LAST_WORDS.store(words.as_mut_ptr(), Ordering::Release);
    }
}

fn out_of_memory() -> ! {
    let words = LAST_WORDS.load(Ordering::Acquire);
    if !words.is_null() {
        // SAFETY: `prepare` leaked these bytes and stored their length before the pointer.
        let words = unsafe { std::slice::from_raw_parts(words, LAST_WORDS_LENGTH.load(Ordering::Relaxed)) };
        write_raw(3, words);
    }
    exit(1)
}

// SAFETY: every call goes to the system's allocator unchanged; only a null result is turned into the end of the process.
unsafe impl GlobalAlloc for ExitWhenOutOfMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds GlobalAlloc's contract, which is System's too.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { out_of_memory() } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() { out_of_memory() } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `alloc`.
        let memory = unsafe { System.realloc(memory, layout, size) };
        if memory.is_null() { out_of_memory() } else { memory }
    }
}
