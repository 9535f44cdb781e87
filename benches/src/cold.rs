//! Cold starts: the first run of a module ever, the first one after a restart, and the next; stage by stage, beside what
//! the engine's compiler takes for the same module alone, on one thread.

use std::fs;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use void_api::CidText;

use crate::server::Server;
use crate::stages::Stages;

/// How long a file of machine code may take to be written behind the first run.
const WRITTEN: Duration = Duration::from_secs(10);

/// A module to be started.
struct Module {
    name: &'static str,
    path: PathBuf,
    cid: String,
    bytes: usize,
}

/// What one run took, in milliseconds.
struct Cold {
    whole: f64,
    stages: Stages,
    compile: f64,
}

/// Measures with `compile_alone`, the program that compiles with nothing around it.
///
/// # Errors
/// A server does not start or answer, or a program cannot be run.
pub(crate) fn measure(binaries: &Path, compile_alone: &Path, manifests: &Path, state: &Path) -> Result<()> {
    // Where the service's module cache is.
    let cache = state.join("modules");
    let modules = [
        module(&cache, "50 bytes", padded(functions(0, 0), 50))?,
        module(&cache, "1 MB", functions(1_000_000, 0))?,
        module(&cache, "20 MB, of it 4 MB code", functions(4_000_000, 16_000_000))?,
    ];
    let first = Server::service(binaries, manifests, state)?;
    let mut before = Vec::new();
    for (number, module) in modules.iter().enumerate() {
        before.push(run(&first, module)?);
        written(&first, number + 1)?;
    }
    drop(first);
    let second = Server::service(binaries, manifests, state)?;
    println!("Cold starts, ms; the last column is the engine's compiler alone, on one thread");
    for (module, first) in modules.iter().zip(before) {
        let restarted = run(&second, module)?;
        let again = run(&second, module)?;
        let alone = alone(compile_alone, &module.path)?;
        let all = [&first, &restarted, &again];
        println!();
        println!("{} ({} bytes)", module.name, module.bytes);
        println!("                                      first   restarted       again   compiler alone");
        line("whole, as its client sees it", all.map(|cold| cold.whole), "");
        for (stage, what) in [
            ("prepare", "module and machine code"),
            ("lease", "a process that is ready"),
            ("run", "the guest"),
        ] {
            line(&format!("  {what}"), all.map(|cold| cold.stages.mean(stage) / 1e3), "");
        }
        let compiled = all.map(|cold| cold.compile);
        line("  of it in a compiler process", compiled, &format!("{alone:17.3}"));
        let ratios = all.map(|cold| cold.whole / alone);
        line("whole / compiler alone", ratios, "");
    }
    Ok(())
}

fn line(what: &str, figures: [f64; 3], rest: &str) {
    let [first, restarted, again] = figures;
    println!("  {what:<32} {first:11.3} {restarted:11.3} {again:11.3}{rest}");
}

/// One run, and what the service says of it.
fn run(server: &Server, module: &Module) -> Result<Cold> {
    let (stages, compile) = (Stages::look(server)?, compile_ms(server)?);
    let body = format!(r#"{{"target":{{"cid":"{}"}},"entry":"f","args":[3]}}"#, module.cid);
    let head = format!(
        "POST /v1/exec HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nprefer: wait=60\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let begin = Instant::now();
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let whole = begin.elapsed().as_secs_f64() * 1e3;
    if !answer.contains("\"status\":\"finished\"") {
        return Err(Error::other(format!("{}: the run did not finish: {answer}", module.name)));
    }
    // The last stage is counted after the answer.
    let stages = settled(server)?.since(&stages);
    Ok(Cold { whole, stages, compile: compile_ms(server)? - compile })
}

/// The stages, once nothing is added to them any more.
fn settled(server: &Server) -> Result<Stages> {
    let mut seen = Stages::look(server)?;
    loop {
        thread::sleep(Duration::from_millis(5));
        let again = Stages::look(server)?;
        if again == seen {
            return Ok(again);
        }
        seen = again;
    }
}

fn compile_ms(server: &Server) -> Result<f64> {
    number(&server.get("/metrics")?, "void_wasm_compile_duration_ms_sum ")
}

fn written(server: &Server, files: usize) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < WRITTEN {
        if number(&server.get("/metrics")?, "void_wasm_code_files_total{outcome=\"written\"} ")?
            >= files as f64
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(Error::other("the machine code was not kept on disk"))
}

fn number(metrics: &str, name: &str) -> Result<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.ok_or_else(|| Error::other(format!("/metrics has no {name}: is void-supervisor of this build?")))
}

fn alone(program: &Path, module: &Path) -> Result<f64> {
    let output = Command::new(program).arg(module).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| {
        Error::other(format!(
            "{} said {text:?} {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        ))
    })
}

fn module(cache: &Path, name: &'static str, wasm: Vec<u8>) -> Result<Module> {
    let cid = CidText::raw(Sha256::digest(&wasm).into()).to_string();
    let folder = cache.join(&cid[..2]).join(&cid[2..4]);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{cid}.wasm"));
    fs::write(&path, &wasm)?;
    Ok(Module { name, path, cid, bytes: wasm.len() })
}

/// A module that exports `f: (i32) -> i32`, with about `code` bytes of functions that differ, and `data` bytes of data.
fn functions(code: usize, data: usize) -> Vec<u8> {
    let mut bodies = vec![vec![0, 0x20, 0, 0x0b]];
    let mut size = 0;
    while size < code {
        let body = body(bodies.len());
        size += body.len() + 3;
        bodies.push(body);
    }
    let mut functions = leb(bodies.len());
    functions.resize(functions.len() + bodies.len(), 0);
    let mut codes = leb(bodies.len());
    for body in &bodies {
        codes.extend(leb(body.len()));
        codes.extend_from_slice(body);
    }
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    section(&mut wasm, 1, vec![1, 0x60, 1, 0x7f, 1, 0x7f]);
    section(&mut wasm, 3, functions);
    if code > 0 {
        section(&mut wasm, 5, [vec![1, 0], leb(data.div_ceil(1 << 16).max(1))].concat());
    }
    section(&mut wasm, 7, vec![1, 1, b'f', 0, 0]);
    section(&mut wasm, 10, codes);
    if data > 0 {
        // One active segment at 0.
        let mut segment = vec![1, 0, 0x41, 0, 0x0b];
        segment.extend(leb(data));
        segment.extend((0..data).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8));
        section(&mut wasm, 11, segment);
    }
    wasm
}

/// The same module, made `size` bytes long by a custom section that means nothing. `size`: up to 127 bytes more.
fn padded(mut wasm: Vec<u8>, size: usize) -> Vec<u8> {
    let missing = size.saturating_sub(wasm.len() + 2);
    let mut content = vec![0; missing];
    // The first byte is the length of its name: none.
    content.truncate(127);
    section(&mut wasm, 0, content);
    wasm
}

/// A loop with a load, a store and some arithmetic, and constants of its own.
fn body(number: usize) -> Vec<u8> {
    // one i32 local; loop: local1 = (local1 + load(local0 & mask)) * constant; store; local0 -= 1; br_if
    let mut body = vec![1, 1, 0x7f, 0x03, 0x40];
    for step in 0..8 {
        body.extend_from_slice(&[0x20, 0, 0x41, 0xfc, 0xff, 0x00, 0x71, 0x28, 2, 0, 0x20, 1, 0x6a, 0x41]);
        body.extend(leb(64 + (number * 31 + step) % 8000 * 128 % 8000));
        body.extend_from_slice(&[0x6c, 0x21, 1]);
    }
    body.extend_from_slice(&[0x20, 0, 0x41, 0xfc, 0xff, 0x00, 0x71, 0x20, 1, 0x36, 2, 0]);
    body.extend_from_slice(&[0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x20, 1, 0x0b]);
    body
}

fn section(wasm: &mut Vec<u8>, id: u8, content: Vec<u8>) {
    wasm.push(id);
    wasm.extend(leb(content.len()));
    wasm.extend(content);
}

/// An unsigned LEB128 number; below 2^6 also the same signed one.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
