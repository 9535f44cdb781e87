//! The messages, by direction. What is legal when is decided by who receives (see `phase` there).

use crate::codec::{Decode, Encode};

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
    /// Any reference type.
    Reference,
}

// ---- spawner ----------------------------------------------------------------------------------

/// To the spawner. Three descriptors travel with it: the new process's socket, and what it reads or
/// writes as descriptors 4 and 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ToSpawner {
    /// Start a process of its own namespaces.
    Spawn {
        /// What it will be.
        role: Role,
        /// Which user it will be where the spawner may choose (root): an offset, 0 to 59,999.
        user_slot: u16,
    },
}

/// What a spawned process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Role {
    /// Descriptor 4: the module's machine code. 5: the warm-up module's.
    Zygote,
    /// Descriptor 4: where machine code goes. 5: the wasm.
    Compiler,
}

/// A layer of the isolation, in the order in which a worker takes them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Layer {
    /// A user of its own, without supplementary groups.
    User,
    /// User, pid, net, ipc, mount, uts and cgroup namespaces.
    Namespaces,
    /// No further namespace can be made.
    NamespaceLimits,
    /// An empty, read-only root.
    EmptyRoot,
    /// Resource limits.
    Limits,
    /// No capability, and none to be had.
    Capabilities,
    /// No new privileges, not dumpable, dies with its parent, no transparent huge pages.
    Process,
    /// Speculative store bypass and indirect branches restricted.
    Speculation,
    /// Landlock: no file, no TCP, no signal and no abstract socket beyond itself.
    Landlock,
    /// Code sealed, and no memory becomes executable.
    Memory,
    /// The kernel syscall filter.
    Seccomp,
}

impl Layer {
    /// All of them, in order.
    pub const ALL: [Layer; 11] = [
        Layer::User,
        Layer::Namespaces,
        Layer::NamespaceLimits,
        Layer::EmptyRoot,
        Layer::Limits,
        Layer::Capabilities,
        Layer::Process,
        Layer::Speculation,
        Layer::Landlock,
        Layer::Memory,
        Layer::Seccomp,
    ];

    /// The name in logs, metrics and `/v1/policy`.
    pub fn name(self) -> &'static str {
        match self {
            Layer::User => "user",
            Layer::Namespaces => "namespaces",
            Layer::NamespaceLimits => "namespace_limits",
            Layer::EmptyRoot => "empty_root",
            Layer::Limits => "limits",
            Layer::Capabilities => "capabilities",
            Layer::Process => "process",
            Layer::Speculation => "speculation",
            Layer::Landlock => "landlock",
            Layer::Memory => "memory",
            Layer::Seccomp => "seccomp",
        }
    }
}

/// A layer that could not be taken on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// Which.
    pub layer: Layer,
    /// What the kernel said, and at which step.
    pub detail: String,
}

// ---- zygote -----------------------------------------------------------------------------------

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
    /// Whether a run process serves one run or many.
    pub reuse: bool,
    /// Go on where the kernel refuses a layer.
    pub allow_weaker: bool,
}

/// From a zygote. Hostile like all that comes upward, though nothing of a run was ever in it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromZygote {
    /// Locked down and loaded; forks are welcome.
    Ready {
        /// Layers that were refused (only with `allow_weaker`).
        missing: Vec<Refused>,
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

// ---- run --------------------------------------------------------------------------------------

/// To a run process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToRun {
    /// Execute. Legal once, in phase ready.
    Start(Start),
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Start {
    /// The exported function.
    pub export: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// An export to call first (the module's start function, under the name the compiler gave it).
    pub start_export: Option<String>,
    /// Linear memory this run may have, all memories together, 64 KiB pages.
    pub mem_pages_max: u32,
}

/// From a run process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FromRun {
    /// Locked down, waiting for `Start`.
    Ready,
    /// The end of the run, as the worker claims it.
    Done(RunEnd),
}

/// The end of a run, as the worker claims it. The supervisor concludes the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunEnd {
    /// What happened.
    pub claim: Claim,
    /// Peak linear memory, 64 KiB pages, all memories together.
    pub mem_pages: u32,
    /// A growth beyond the limit was refused during the run.
    pub growth_refused: bool,
}

/// What happened, as the worker claims it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Claim {
    /// The function returned.
    Returned(Vec<Value>),
    /// The guest trapped.
    Trapped(Trap),
    /// The module is larger at the start than this run may have, 64 KiB pages.
    TooLarge {
        /// What it has at the start.
        pages: u32,
    },
    /// There is no such exported function.
    NoSuchExport,
    /// The arguments are not of the function's types.
    TypeMismatch,
}

/// A trap.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trap {
    /// The stack was exhausted.
    pub stack: bool,
    /// One line: what trapped.
    pub message: String,
    /// Guest functions, innermost first, one line each.
    pub backtrace: Vec<String>,
}

// ---- compiler ---------------------------------------------------------------------------------

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
    Ready,
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
        /// The export under which the start function is called, where there is one.
        start_export: Option<String>,
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
