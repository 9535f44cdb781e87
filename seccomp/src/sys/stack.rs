//! A stack that lies beside the program's own data, for what `heap.rs` says of places.
//!
//! ```text
//! constants ┃ signal stack │ guard │ stack ┃   free   ┃ data
//!  (read-only)                            ◀ begins here
//! ```
//! It lies behind the constants that were relocated, in the same region of 2 MiB: the worker is linked so that there is room
//! before the next part begins, and beyond that region more, where what the C library maps at the start finds its place.

use std::arch::asm;
use std::ffi::c_long;
use std::io;
use std::ops::Range;

use super::check;
use super::code::writable_parts;

const PAGE: usize = 4096;
/// What one page of the kernel's tables describes.
const REGION: usize = 2 << 20;
/// What the engine wants for the handler of traps; it makes none of its own where there is one of this size.
const SIGNAL_BYTES: usize = 256 << 10;
/// A guest's stack (1 MiB), and what is executed for it on top.
const LEAST_BYTES: usize = (1 << 20) + (512 << 10);

/// Calls `main` with `value` on a stack of its own, and gives signals theirs. The first stack stays as it is.
///
/// # Errors
/// The kernel's, where it gives no memory; `main` has not been called then.
pub(crate) fn on_own_stack<T>(
    value: Box<T>,
    main: extern "C" fn(Box<T>) -> !,
) -> io::Result<std::convert::Infallible> {
    let beside =
        room_between_parts().and_then(|room| map(room.start, room.len(), libc::MAP_FIXED_NOREPLACE).ok());
    let area = match beside {
        Some(area) => area,
        // Not linked for it, as in a test: anywhere, with a guard of its own below.
        None => {
            let area = map(0, PAGE + SIGNAL_BYTES + PAGE + LEAST_BYTES, 0)?;
            forbid(area.start)?;
            area.start + PAGE..area.end
        }
    };
    forbid(area.start + SIGNAL_BYTES)?;
    let signals = libc::stack_t {
        ss_sp: std::ptr::with_exposed_provenance_mut(area.start),
        ss_flags: 0,
        ss_size: SIGNAL_BYTES,
    };
    // SAFETY: the memory is this function's to give, and is never given back.
    check(c_long::from(unsafe { libc::sigaltstack(&raw const signals, std::ptr::null_mut()) }))?;
    // SAFETY: the new stack is writable down to its guard and nobody else's. Nothing returns to the old one, which stays as
    // it is, so what lies there can still be referred to. `main` gets its one argument, a box, where its convention has it.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            top = in(reg) area.end,
            main = in(reg) main,
            in("rdi") Box::into_raw(value),
            options(noreturn),
        );
    }
}

/// What is left of the region in which the relocated constants lie, where that is enough.
fn room_between_parts() -> Option<Range<usize>> {
    let parts = writable_parts();
    let [.., constants, data] = parts.as_slice() else { return None };
    let end = constants.end.next_multiple_of(REGION);
    let room = constants.end.next_multiple_of(PAGE)..end;
    (end <= data.start && room.len() >= SIGNAL_BYTES + PAGE + LEAST_BYTES).then_some(room)
}

fn map(address: usize, bytes: usize, flags: libc::c_int) -> io::Result<Range<usize>> {
    // SAFETY: a new anonymous mapping, which replaces none: the kernel is told so, or chooses the place.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::without_provenance_mut(address),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = mapped.expose_provenance();
    Ok(start..start + bytes)
}

/// Makes a page of ours a guard.
fn forbid(page: usize) -> io::Result<()> {
    // SAFETY: the callers name a page of the area that they have just mapped and not used.
    let forbidden =
        unsafe { libc::mprotect(std::ptr::with_exposed_provenance_mut(page), PAGE, libc::PROT_NONE) };
    check(c_long::from(forbidden)).map(drop)
}

/// Where the stack for signals lies, where there is one.
pub(crate) fn signal_stack() -> Option<Range<usize>> {
    // SAFETY: stack_t is plain data, for which all zeroes is a value.
    let mut present: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: asks only, into a struct that outlives the call.
    let asked = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut present) };
    let start = present.ss_sp.addr();
    (asked == 0 && present.ss_flags & libc::SS_DISABLE == 0).then(|| start..start + present.ss_size)
}

/// Unmaps memory.
///
/// The caller sees to it that nothing refers to it any more.
pub(crate) fn give_back(range: &Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: nothing refers to what is unmapped, as the callers see to.
    check(c_long::from(unsafe { libc::munmap(start, range.len()) })).map(drop)
}
