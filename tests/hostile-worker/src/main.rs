//! `void-hostile-worker`: the worker as it is shipped, except that its run processes belong to an attacker.
//!
//! Spawner, zygote, lock-down and filter are the real ones, file by file. What a run process then says to the supervisor is
//! in `run`; which of it, is the name of the function that a request asks for. Tests put this program in the
//! place of `void-sandbox-worker`.

use std::process::ExitCode;

use void_seccomp::Near;

/// As the worker has it.
#[global_allocator]
static HEAP: Near = Near::new();

#[path = "../../../sandbox-worker/src/engine.rs"]
#[allow(dead_code, unreachable_pub, reason = "the worker's own file")]
mod engine;
#[path = "../../../sandbox-worker/src/imports/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the worker's own file")]
mod imports;
#[path = "../../../sandbox-worker/src/limiter.rs"]
#[allow(dead_code, unreachable_pub, reason = "the worker's own file")]
mod limiter;
#[path = "../../../sandbox-worker/src/line.rs"]
#[allow(dead_code, unreachable_pub, reason = "the worker's own file")]
mod line;
mod run;
#[path = "../../../sandbox-worker/src/spawner.rs"]
#[allow(unreachable_pub, reason = "the worker's own file")]
mod spawner;
#[path = "../../../sandbox-worker/src/zygote.rs"]
#[allow(unreachable_pub, reason = "the worker's own file")]
mod zygote;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| void_seccomp::exit(70)));
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    match (name.as_str(), arguments.next().as_deref()) {
        ("void-zygote", _) => zygote::main(),
        (_, Some("spawner")) => spawner::main(arguments.next(), arguments.next()),
        _ => ExitCode::from(64),
    }
}
