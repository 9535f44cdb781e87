//! The one engine configuration that the compiler and the workers share.
//!
//! Machine code is only accepted by an engine configured as the one that made it, so both sides
//! call [`config`]. No feature of wasmtime is chosen here: the worker adds the runtime, the
//! compiler adds Cranelift, and neither gets the other's half.
#![forbid(unsafe_code)]

/// Native stack that a guest may use, in bytes. A guest that needs more traps (`stack`).
pub const GUEST_STACK_BYTES: usize = 1 << 20;

/// Address space reserved for each 32-bit memory, in bytes: with the guard behind it, bounds checks
/// are left to the page tables.
pub const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// Unmapped space behind each memory, in bytes.
pub const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// The configuration. Everything that has a bearing on the machine code is set here, explicitly or
/// by leaving wasmtime's default.
pub fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .max_wasm_stack(GUEST_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        // A memory that moved would need mmap in the run process, which its filter forbids.
        .memory_may_move(false)
        // Nothing unwinds through guest code but wasmtime's own frame-pointer walk.
        .native_unwind_info(false);
    config
}
