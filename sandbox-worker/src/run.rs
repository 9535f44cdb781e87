//! A run process, from its fork to its end: ready, one request, one answer, gone.
//!
//! ```text
//! forked ─ Ready ▶ waits ─ Start ▶ executes ─ Done ▶ waits for the socket's end ─▶ exit
//!                    ▲                          │
//!                    └─── a new instance ───────┘   (where run processes are used again)
//! ```
//! It ends only when the supervisor has read the answer and closed the socket: taking a process apart
//! costs more than most runs, and nobody should wait for it.

use void_ipc::limits::{BACKTRACE_FRAMES, DETAIL_BYTES, NAME_BYTES, STDIN_BYTES};
use void_ipc::message::{Claim, FromRun, RunEnd, Start, ToRun, Trap, Value, WasiStart};
use wasmtime::{Func, Val, ValType, WasmBacktrace};

use crate::engine::{Template, bounded};
use crate::imports::{Exit, Fault, Wasi};
use crate::line::{self, Line};

/// Serves the one run of this process, or with `reuse` one after the other.
pub fn serve(template: &mut Template, line: &Line, reuse: bool) -> ! {
    let served = line.send(&FromRun::Ready).and_then(|()| {
        while let Some(ToRun::Start(start)) = line.receive()? {
            if let Some(wasi) = &start.wasi {
                template.store.data_mut().wasi = Some(Box::new(prepare_wasi(wasi, line)?));
            }
            let end = execute(template, &start);
            line.send(&FromRun::Done(end))?;
            if !reuse {
                // Nothing else is legal: either the end, or a supervisor that is out of its mind.
                let _: Option<ToRun> = line.receive()?;
                break;
            }
            // The next run finds everything as the first one did, and waits for none of it.
            template.renew().map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        }
        Ok(())
    });
    void_seccomp::exit(if served.is_ok() { 0 } else { 1 })
}

fn prepare_wasi(start: &WasiStart, line: &Line) -> std::io::Result<Wasi> {
    let length = start.stdin_bytes as usize;
    let stdin = if length > STDIN_BYTES { None } else { line::receive_parts(line, length)? };
    // More than there is room for: no supervisor sends that.
    stdin.map(|stdin| Wasi::new(start, stdin, line)).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// Executes one request and says how it ended.
pub fn execute(template: &mut Template, start: &Start) -> RunEnd {
    let claim = attempt(template, start);
    let limiter = &template.store.data().limiter;
    RunEnd { claim, mem_pages: limiter.pages(), growth_refused: limiter.refused() }
}

fn attempt(template: &mut Template, start: &Start) -> Claim {
    let limiter = &mut template.store.data_mut().limiter;
    limiter.set_pages_max(start.mem_pages_max);
    if limiter.pages() > start.mem_pages_max {
        return Claim::TooLarge { pages: limiter.pages() };
    }
    let exported =
        |template: &mut Template, name: &str| template.instance.get_func(&mut template.store, name);
    for name in &start.first {
        let Some(function) = exported(template, name) else { return Claim::NoSuchExport };
        if let Err(claim) = call(template, function, &[]) {
            return match claim {
                // Nothing of what was asked for has happened: that is no success.
                Claim::Exited(0) => Claim::Trapped(exited_early(name)),
                claim => claim,
            };
        }
    }
    let Some(function) = exported(template, &start.export) else { return Claim::NoSuchExport };
    match call(template, function, &start.args) {
        Ok(values) => Claim::Returned(values),
        Err(claim) => claim,
    }
}

/// The guest asked for its end, as if all were done, before its entry was called.
fn exited_early(function: &str) -> Trap {
    let function = if function == "_initialize" { function } else { "its start function" };
    Trap {
        stack: false,
        message: format!("the guest exited with code 0 in {function}, so that its entry was never called"),
        backtrace: Vec::new(),
    }
}

fn call(template: &mut Template, function: Func, arguments: &[Value]) -> Result<Vec<Value>, Claim> {
    let ty = function.ty(&template.store);
    let arguments: Vec<Val> = arguments.iter().map(|value| into_engine(*value)).collect();
    let fits = ty.params().len() == arguments.len()
        && ty.params().zip(&arguments).all(|(param, argument)| ValType::eq(&param, &argument_type(argument)));
    if !fits {
        return Err(Claim::TypeMismatch);
    }
    let mut results = vec![Val::I32(0); ty.results().len()];
    function.call(&mut template.store, &arguments, &mut results).map_err(|error| {
        match error.downcast_ref::<Exit>() {
            Some(Exit(code)) => Claim::Exited(*code),
            None => Claim::Trapped(describe(&error, template.store.data().memory.is_some())),
        }
    })?;
    results.iter().map(from_engine).collect::<Option<_>>().ok_or(Claim::TypeMismatch)
}

/// What wasmtime-wasi says where its caller has no memory, or where it has no caller.
const WITHOUT_MEMORY: &str = "missing required memory export";

fn describe(error: &wasmtime::Error, has_memory: bool) -> Trap {
    let trap = error.downcast_ref::<wasmtime::Trap>();
    // A function of ours that stops the guest says why; the backtrace is a text of its own around it.
    let fault = error.downcast_ref::<Fault>().map(ToString::to_string);
    let cause = || {
        match error.root_cause().to_string() {
        text if text != WITHOUT_MEMORY => bounded(text.replace('\n', " "), DETAIL_BYTES),
        _ if has_memory => {
            "the entry is a function of WASI that the module imports and exports again, and cannot be called by itself: \
             export a function that calls it"
                .to_owned()
        }
        _ => "a function of WASI was called by a module that exports no memory named \"memory\"".to_owned(),
    }
    };
    let message = trap.map(ToString::to_string).or(fault).unwrap_or_else(cause);
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    Trap {
        stack: trap == Some(&wasmtime::Trap::StackOverflow),
        message: bounded(message, DETAIL_BYTES),
        backtrace: frames.iter().take(BACKTRACE_FRAMES).map(frame_line).collect(),
    }
}

fn frame_line(frame: &wasmtime::FrameInfo) -> String {
    let name = match frame.func_name() {
        Some(name) => bounded(name.to_owned(), NAME_BYTES),
        None => format!("<function {}>", frame.func_index()),
    };
    match frame.module_offset() {
        Some(offset) => format!("{name} at {offset:#x}"),
        None => name,
    }
}

fn into_engine(value: Value) -> Val {
    match value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.into()),
    }
}

fn argument_type(value: &Val) -> ValType {
    match value {
        Val::I64(_) => ValType::I64,
        Val::F32(_) => ValType::F32,
        Val::F64(_) => ValType::F64,
        Val::V128(_) => ValType::V128,
        _ => ValType::I32,
    }
}

fn from_engine(value: &Val) -> Option<Value> {
    match value {
        Val::I32(value) => Some(Value::I32(*value)),
        Val::I64(value) => Some(Value::I64(*value)),
        Val::F32(bits) => Some(Value::F32(*bits)),
        Val::F64(bits) => Some(Value::F64(*bits)),
        Val::V128(bits) => Some(Value::V128(bits.as_u128())),
        _ => None,
    }
}
