//! The messages to and from a compiler.

use super::{Refused, ValueType};
use crate::codec::{Decode, Encode};

/// To a compiler, already waiting when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Job {
    /// Describe only, or compile too.
    pub compile: bool,
    /// CPU time after which it gives up, seconds.
    pub cpu_seconds_max: u32,
    /// Memory that it may use, bytes.
    pub memory_bytes_max: u64,
    /// Machine code that it may write, bytes.
    pub output_bytes_max: u64,
    /// Go on where the kernel refuses a layer.
    pub allow_weaker: bool,
}

/// From a compiler.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromCompiler {
    /// Locked down; the work begins.
    Ready {
        /// What machine code is made for: a hash over the engine's version, its settings and the processor's features.
        /// Another engine does not load it. Said before the first look at the module.
        engine: u64,
    },
    /// A layer was refused; the process ends.
    Refused(Refused),
    /// One export or import of the module; as many as [`FromCompiler::Compiled`] then counts.
    Export(Extern),
    /// An import.
    Import(Import),
    /// The job is done; the machine code, where it was asked for, is complete in descriptor 4.
    Compiled {
        /// What the module is.
        kind: ModuleKind,
        /// Exports sent before.
        exports: u32,
        /// Imports sent before.
        imports: u32,
        /// Its memories, imported ones first; at most [`crate::limits::MEMORIES`].
        memories: Vec<MemoryBounds>,
        /// The export under which the start function is called, where there is one.
        start_export: Option<String>,
        /// Linear memory at the start, all memories together, 64 KiB pages.
        memory_pages: u64,
        /// Table elements at the start, all tables together.
        table_elements: u64,
        /// Size of the machine code in bytes, 0 where none was asked for.
        code_bytes: u64,
    },
    /// The module is not valid, or uses what is not supported.
    Invalid(String),
    /// The compiler ran out of its CPU time, memory or output size.
    Budget(Budget),
}

/// What a compiler ran out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Budget {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Output size.
    Output,
}

/// What a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ModuleKind {
    /// A core module that is neither of the next two.
    Module,
    /// Exports `_start`: a WASI command.
    Command,
    /// Exports `_initialize`: a WASI reactor.
    Reactor,
    /// A component; not executed.
    Component,
}

/// The size of a memory, pages of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct MemoryBounds {
    /// At the start.
    pub min: u64,
    /// At most, where the module says so.
    pub max: Option<u64>,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Extern {
    /// Its name.
    pub name: String,
    /// What it is.
    pub item: Item,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Import {
    /// From which module.
    pub module: String,
    /// Which name.
    pub name: String,
    /// What it must be.
    pub item: Item,
}

/// What an export or import is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Item {
    /// A function.
    Function {
        /// Parameter types.
        params: Vec<ValueType>,
        /// Result types.
        results: Vec<ValueType>,
    },
    /// A memory, sizes in 64 KiB pages.
    Memory {
        /// At the start.
        min: u64,
        /// At most.
        max: Option<u64>,
    },
    /// A table, sizes in elements.
    Table {
        /// At the start.
        min: u64,
        /// At most.
        max: Option<u64>,
    },
    /// A global.
    Global {
        /// Its type.
        ty: ValueType,
        /// Whether it can be set.
        mutable: bool,
    },
    /// A tag.
    Tag,
}
