//! The messages, by direction. What is legal when is decided by who receives (see `phase` there).

use crate::codec::{Decode, Encode};

mod compiler;
mod run;
mod spawner;
mod zygote;

pub use compiler::*;
pub use run::*;
pub use spawner::*;
pub use zygote::*;

/// A WebAssembly value as bits: nothing is converted on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Value {
    /// i32.
    I32(i32),
    /// i64.
    I64(i64),
    /// f32, as its bits.
    F32(u32),
    /// f64, as its bits.
    F64(u64),
    /// v128, as a number.
    V128(u128),
}

/// A value's type, as far as it can cross the wire. References cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ValueType {
    /// i32.
    I32,
    /// i64.
    I64,
    /// f32.
    F32,
    /// f64.
    F64,
    /// v128.
    V128,
    /// funcref, and any other reference to functions.
    FuncRef,
    /// externref, and any other reference to something of the host's.
    ExternRef,
}
