//! The messages to the spawner, and the layers of isolation that a worker may be refused.

use crate::codec::{Decode, Encode};

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
