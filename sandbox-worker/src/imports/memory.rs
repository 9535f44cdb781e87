//! The guest's memory, as the functions that it calls see it: every pointer and length is held against the memory's size
//! before anything is read or written.

use std::ops::Range;

use wasmtime::{Caller, Memory};

use super::Fault;
use crate::engine::RunState;

/// The memory that the module exports as `memory`. Not asked of the caller: there is none where the entry itself is a
/// function of ours, which the module exports again.
///
/// # Errors
/// There is none, and the guest cannot go on.
pub(super) fn exported(caller: &Caller<'_, RunState>, function: &str) -> Result<Memory, Fault> {
    caller.data().memory.ok_or_else(|| {
        Fault(format!("{function} was called by a module that exports no memory named \"memory\""))
    })
}

/// The bytes that a pointer and a length name.
///
/// # Errors
/// They reach beyond the memory, and the guest cannot go on.
pub(super) fn span(
    memory: &[u8],
    function: &str,
    what: &str,
    pointer: i32,
    length: i32,
) -> Result<Range<usize>, Fault> {
    // As the guest means them: unsigned. Neither sum nor conversion can overflow 64 bits.
    let (start, length) = (pointer.cast_unsigned() as usize, length.cast_unsigned() as usize);
    match start.checked_add(length) {
        Some(end) if end <= memory.len() => Ok(start..end),
        _ => Err(Fault(format!(
            "{function} was called with {length} bytes at address {start} as {what}, which reach beyond the memory \
             of {} bytes",
            memory.len()
        ))),
    }
}
