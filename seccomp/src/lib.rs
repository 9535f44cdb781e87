//! All kernel work that needs care: namespaces, rlimits, capabilities, filters, spawning, descriptors.
//!
//! One mechanism a file, and every unsafe line in `sys`. The order in which a process takes the
//! layers on stands in [`lockdown`]; what each filter allows, and why, in [`filter`]. Knows nothing of
//! policy, HTTP or WebAssembly.
#![deny(unsafe_code)]

pub mod capabilities;
pub mod descriptors;
pub mod filter;
pub mod fork;
pub mod landlock;
pub mod leftovers;
pub mod limits;
pub mod lockdown;
pub mod means;
pub mod memory;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod spawn;
#[allow(unsafe_code)]
mod sys;
pub mod watch;
pub mod wire;

pub use sys::{ExitWhenOutOfMemory, Near, Secret, exit, inherited};
