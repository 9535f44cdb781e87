//! The harness of the integration tests: starts the real `void-supervisor`, speaks HTTP to it over real sockets, and
//! reads what the kernel says about its processes.
//!
//! Nothing of the service's own crates may enter here: the tests hold the program to its contract from outside, as a
//! user would, so a mistake that two crates share cannot hide behind a shared type.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness reports a broken expectation by panicking in the test that has it"
)]

mod support;

pub use support::binaries::supervisor;
pub use support::browser::{Browser, Look};
pub use support::caller::{Caller, Request};
pub use support::cli::{Said, void_wasm, void_wasm_command};
pub use support::events::{Event, Events};
pub use support::fetching::{code, denied_by, echo, fetch, fetching, gzip};
pub use support::guest::{
    guest, long_to_compile_module, marked, module_of_many_functions, slow_to_compile_module, wat,
};
pub use support::http::{Client, Response};
pub use support::island::Island;
pub use support::load::Load;
pub use support::locker::DatabaseLock;
pub use support::metrics::Metrics;
pub use support::process::{Process, tests_run_as_root};
pub use support::promql::missing as missing_series;
pub use support::registry::{kept, npm_file, pypi_file, sha256_of};
pub use support::reload::{EnvFile, Notified};
pub use support::run::{Exec, Run};
pub use support::server::{Builder, Exited, Server};
pub use support::timestamp::timestamp;
pub use support::toolchain::{build_example, examples, toolchain};
pub use support::tools::{said, tool};
pub use support::upstream::{Asked, Stream, Upstream, reply, test_ca};
pub use support::wait::{eventually, eventually_some};
pub use support::witness::Witness;
