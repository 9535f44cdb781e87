//! The parts of the harness, one concern a file.

pub(crate) mod binaries;
pub(crate) mod browser;
pub(crate) mod caller;
pub(crate) mod cli;
pub(crate) mod events;
pub(crate) mod fetching;
pub(crate) mod guest;
pub(crate) mod http;
pub(crate) mod island;
pub(crate) mod load;
pub(crate) mod locker;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod promql;
pub(crate) mod registry;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod timestamp;
pub(crate) mod toolchain;
pub(crate) mod tools;
pub(crate) mod upstream;
pub(crate) mod wait;
pub(crate) mod witness;
