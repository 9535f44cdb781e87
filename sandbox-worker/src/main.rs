//! `void-sandbox-worker`: the confined side. One program, three roles; which one is said by its name or first argument.
//!
//! Started by hand it says so and ends: it is the supervisor's to start.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use void_sandbox_worker::{spawner, zygote};

fn main() -> ExitCode {
    // A panic in a role is a defect of ours. It ends that process alone, at once: unwinding would need kernel syscalls
    // that its filter forbids.
    std::panic::set_hook(Box::new(|_| void_seccomp::exit(70)));
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    match (name.as_str(), arguments.next().as_deref()) {
        ("void-zygote", _) => zygote::main(),
        (_, Some("spawner")) => spawner::main(arguments.next(), arguments.next()),
        _ => {
            eprintln!("void-sandbox-worker is started by void-supervisor; start that instead");
            ExitCode::from(64)
        }
    }
}
