//! `void-bench`: the service and the floor under it, measured in turns on the same machine in the same minute.
//!
//! Started by `cargo xtask bench`. Absolute numbers drift with the machine and its neighbours, so that nothing is printed
//! without the echo's number beside it. How to read it: docs/performance.md.
#![forbid(unsafe_code)]

mod cold;
mod cpu;
mod load;
mod processors;
mod server;
mod stages;
mod store;
mod table;

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::load::{Seen, Target, apply};
use crate::server::Server;
use crate::stages::Stages;

/// Connections at once, each with one request under way.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Turns into which the time of a step is divided, so that a disturbance meets both sides.
const TURNS: u32 = 3;

/// Measures the service beside an echo.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds of load for each side and each number of connections
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// The folder with manifest.json and the module `add`
    #[arg(long)]
    manifests: PathBuf,
    /// Measures cold starts instead: the program that compiles a module with nothing around it
    #[arg(long)]
    cold: Option<PathBuf>,
    /// Measures what the store costs instead: the folder of programs that were built without it
    #[arg(long)]
    without_store: Option<PathBuf>,
}

/// One side under one number of connections.
#[derive(Debug, Default)]
struct Side {
    seen: Seen,
    /// CPU time of the server with all processes below it.
    cpu: Duration,
}

/// Both sides under one number of connections.
#[derive(Debug, Default)]
struct Step {
    connections: usize,
    echo: Side,
    service: Side,
    stages: Stages,
    /// CPU time of neither side nor of the load, while the two were measured.
    others: Duration,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("void-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let program = std::env::current_exe()?;
    let binaries = program.parent().unwrap_or(Path::new("."));
    let state = tempfile::tempdir()?;
    if let Some(compile_alone) = &arguments.cold {
        return cold::measure(binaries, compile_alone, &arguments.manifests, state.path());
    }
    let body = request_body(&arguments.manifests)?;
    if let Some(without) = &arguments.without_store {
        let seconds = arguments.seconds.max(1);
        return store::compare(binaries, without, &arguments.manifests, state.path(), &body, seconds);
    }
    let echo = Server::echo(binaries)?;
    let service = Server::service(binaries, &arguments.manifests, state.path())?;
    let floor = Target {
        address: echo.address,
        request: post("/", "", &body),
        number_at: None,
        contains: "\"entry\"",
    };
    let prefer = "prefer: wait=10\r\n";
    let target = Target {
        address: service.address,
        request: post("/v1/exec", prefer, &body),
        number_at: None,
        contains: "\"result\":5",
    };

    table::header(arguments.seconds, TURNS);
    let turn = Duration::from_secs(u64::from(arguments.seconds.max(1))) / TURNS;
    let mut steps = Vec::new();
    for connections in CONNECTIONS {
        // Zygotes are started, and as many processes forked ahead as will be used at once.
        apply(&floor, connections, turn / 4)?;
        apply(&target, connections, turn / 4)?;
        let mut step = Step { connections, ..Step::default() };
        for _ in 0..TURNS {
            let (busy, load) = (processors::busy(), cpu::own());
            let sides = measure(&mut step.echo, &echo, &floor, connections, turn)?;
            let before = Stages::look(&service)?;
            let sides = sides + measure(&mut step.service, &service, &target, connections, turn)?;
            step.stages.add(&Stages::look(&service)?.since(&before));
            step.others += (processors::busy() - busy).saturating_sub(sides + (cpu::own() - load));
        }
        steps.push(step);
    }
    table::print(&mut steps);
    Ok(())
}

/// One turn: the load, and the CPU time that it cost the server.
fn measure(
    side: &mut Side,
    server: &Server,
    target: &Target,
    connections: usize,
    turn: Duration,
) -> Result<Duration> {
    let mut tree = cpu::Tree::of(server.pid());
    let before = tree.look();
    side.seen.add(apply(target, connections, turn)?);
    // What was forked ahead and what is still being taken apart is left out at both ends.
    let cpu = tree.look().saturating_sub(before);
    side.cpu += cpu;
    Ok(cpu)
}

fn request_body(manifests: &Path) -> Result<String> {
    let manifest = std::fs::read_to_string(manifests.join("manifest.json"))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).map_err(Error::other)?;
    let genes = manifest["genes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cid = genes.iter().find(|gene| gene["name"] == "add").and_then(|gene| gene["cid"].as_str());
    let cid = cid.ok_or_else(|| Error::other("the manifest has no gene `add` with a cid"))?;
    Ok(format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"add(i32,i32)->i32","args":[2,3]}}"#))
}

fn post(path: &str, header: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
