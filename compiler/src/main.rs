//! `void-sandbox-compiler`: one process a job, thrown away. Wasm in by descriptor 5, machine code out by descriptor 4,
//! words by descriptor 3.
//!
//! It is locked down before it looks at the first byte: no executable memory, no file, no network, bounded CPU
//! time, memory and output. Running out of one of these is an answer.
#![forbid(unsafe_code)]

mod binary;
mod describe;
mod export_names;
mod start_function;

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::process::ExitCode;

use void_ipc::message::{Budget, FromCompiler, Job, ModuleKind, Refused};
use void_seccomp::filter::{self, Filter};
use void_seccomp::limits::Limits;
use void_seccomp::lockdown::Lockdown;
use void_seccomp::wire::Wire;
use void_seccomp::{ExitWhenOutOfMemory, fork, means, process};

#[global_allocator]
static ALLOCATOR: ExitWhenOutOfMemory = ExitWhenOutOfMemory;

fn main() -> ExitCode {
    if std::env::args().next().as_deref() != Some("void-compiler") {
        eprintln!("void-sandbox-compiler is started by void-supervisor; start that instead");
        return ExitCode::from(64);
    }
    // A panic is a defect, of ours or of the code generator's; there is nobody to unwind for.
    std::panic::set_hook(Box::new(|_| void_seccomp::exit(70)));
    let mut wire = Wire::take(Vec::leak(vec![0; void_ipc::limits::FRAME_BYTES]));
    let answered = match wire.receive::<Job>() {
        Ok(Some(job)) => work(&mut wire, job),
        _ => void_seccomp::exit(1),
    };
    let sent = match answered {
        Ok(last) | Err(last) => wire.send(&last),
    };
    void_seccomp::exit(if sent.is_ok() { 0 } else { 1 })
}

fn work(wire: &mut Wire, job: Job) -> Result<FromCompiler, FromCompiler> {
    let (engine, engine_hash) = prepare().map_err(FromCompiler::Refused)?;
    let input = read_input()?;
    lock_down(job).map_err(FromCompiler::Refused)?;
    let send = |wire: &mut Wire, message: &FromCompiler| {
        // Without a reader there is no point in going on.
        wire.send(message).unwrap_or_else(|_| void_seccomp::exit(1));
    };
    send(wire, &FromCompiler::Ready { engine: engine_hash });
    let module = describe::describe(&input).map_err(FromCompiler::Invalid)?;
    let (exports, imports) = (module.exports.len(), module.imports.len());
    for export in module.exports {
        send(wire, &FromCompiler::Export(export));
    }
    for import in module.imports {
        send(wire, &FromCompiler::Import(import));
    }
    let mut code_bytes = 0;
    // The engine would refuse a component by what it was built without; the supervisor does by what it is.
    if job.compile && module.kind != ModuleKind::Component {
        code_bytes = compile(&engine, &input, module.start_export.as_deref(), job.output_bytes_max)?;
    }
    Ok(FromCompiler::Compiled {
        kind: module.kind,
        exports: u32::try_from(exports).unwrap_or(u32::MAX),
        imports: u32::try_from(imports).unwrap_or(u32::MAX),
        memories: module.memories,
        start_export: module.start_export,
        memory_pages: module.memory_pages,
        table_elements: module.table_elements,
        code_bytes,
    })
}

/// What must be made before the lock-down: it asks the processor and the kernel what they are.
fn prepare() -> Result<(wasmtime::Engine, u64), Refused> {
    let limits = |error: std::io::Error| Refused {
        layer: void_ipc::message::Layer::Limits,
        detail: error.to_string(),
    };
    process::set_name(c"void-compiler").map_err(limits)?;
    let mut words = Vec::new();
    // Both frames are far smaller than the limit, so encoding them cannot fail.
    let _ = void_ipc::encode(&FromCompiler::Budget(Budget::Memory), &mut words);
    ExitWhenOutOfMemory::prepare(words);
    fork::on_cpu_limit(cpu_time_is_up).map_err(limits)?;
    let mut config = void_engine::config();
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    let refused = |error: wasmtime::Error| Refused {
        layer: void_ipc::message::Layer::Limits,
        detail: format!("the engine: {error:#}"),
    };
    let engine = wasmtime::Engine::new(&config).map_err(refused)?;
    let hash = compatibility(&engine).map_err(refused)?;
    Ok((engine, hash))
}

/// What the machine code fits. Every artifact carries the engine's version and settings and the processor's features, by
/// which an engine that is to load it judges; the empty module's is little else. (The engine has a hash of its own for this,
/// in the half that is not linked here.) The hasher is the standard library's with its fixed key: equal for equal builds,
/// which is all that is asked of it.
fn compatibility(engine: &wasmtime::Engine) -> wasmtime::Result<u64> {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_module(b"\0asm\x01\0\0\0")?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// The module. Read before the filter is on, looked at only after.
fn read_input() -> Result<Vec<u8>, FromCompiler> {
    let mut input = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(void_seccomp::inherited(5)), &mut input)
        .map_err(|error| FromCompiler::Invalid(format!("the module could not be read: {error}")))?;
    Ok(input)
}

fn lock_down(job: Job) -> Result<(), Refused> {
    // The first hash map of a thread asks the kernel for randomness; later ones do not.
    drop(std::hint::black_box(std::collections::HashMap::<u8, u8>::new()));
    let mut lockdown = Lockdown::begin(job.allow_weaker, means::left_out(std::env::args().skip(1)))?;
    lockdown.enter(Limits {
        data_bytes: job.memory_bytes_max,
        cpu_seconds: u64::from(job.cpu_seconds_max),
        cpu_grace_seconds: 1,
        file_bytes: job.output_bytes_max,
    })?;
    lockdown.finish(&[], 1, Filter::of(filter::COMPILER)?).map(drop)
}

fn compile(
    engine: &wasmtime::Engine,
    wasm: &[u8],
    start_export: Option<&str>,
    output_bytes_max: u64,
) -> Result<u64, FromCompiler> {
    let mut wasm = Cow::Borrowed(wasm);
    if let Some(names) = export_names::missing(&wasm) {
        wasm.to_mut().extend_from_slice(&names);
    }
    if let Some(rewritten) = start_export.and_then(|name| start_function::export_instead(&wasm, name)) {
        wasm = Cow::Owned(rewritten);
    }
    let code = engine
        .precompile_module(&wasm)
        .map_err(|error| FromCompiler::Invalid(describe::one_line(&format!("{error:#}"))))?;
    let length = code.len() as u64;
    if length > output_bytes_max {
        return Err(FromCompiler::Budget(Budget::Output));
    }
    let mut output = std::fs::File::from(void_seccomp::inherited(4));
    output.write_all(&code).map_err(|_| FromCompiler::Budget(Budget::Output))?;
    // Closing would be one more kernel syscall to allow; the process is about to end anyway.
    std::mem::forget(output);
    Ok(length)
}

/// Runs at the soft CPU limit, one second before the kernel would end the process without a word.
extern "C" fn cpu_time_is_up(_signal: i32) {
    let mut frame = [0; 32];
    if let Ok(length) = void_ipc::encode_into(&FromCompiler::Budget(Budget::Cpu), &mut frame) {
        fork::write_packet(&frame[..length]);
    }
    void_seccomp::exit(0)
}
