//! The outcome of a run, concluded from facts: the supervisor's own act first, then the kernel's word, then the worker's claim.
//!
//! Pure: no clock, no I/O. What a worker claims is cut to what it could possibly be.

use std::fmt::Write;

use void_api::{DenialNote, Reason, Status, Usage, Value, results_json};
use void_ipc::message::{Claim, RunEnd, Trap, Unloadable, Value as WireValue};
use void_policy::settings::Limits;

use crate::worker::{Facts, MOST_BYTES, Verdict};

/// How a run ended, as its record says it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// `finished`, `error` or `cancelled`.
    pub(crate) status: Option<Status>,
    /// Why, on `error`.
    pub(crate) reason: Option<Reason>,
    /// The same in a sentence.
    pub(crate) error: Option<String>,
    /// The results, on `finished`.
    pub(crate) result: Option<Box<serde_json::value::RawValue>>,
    /// What was used.
    pub(crate) usage: Usage,
    /// Its wall time, where its guest was executed.
    pub(crate) executed: Option<std::time::Duration>,
    /// What the guest wrote to standard output and standard error, and whether there was more.
    pub(crate) written: [Option<(String, bool)>; 2],
    /// A WASI command's exit code.
    pub(crate) exit_code: Option<i32>,
    /// Gateway calls that were refused.
    pub(crate) denials: Vec<DenialNote>,
}

impl Outcome {
    /// An end in error without anything having run.
    pub(crate) fn error(reason: Reason, error: impl Into<String>) -> Outcome {
        Outcome {
            status: Some(Status::Error),
            reason: Some(reason),
            error: Some(error.into()),
            ..Outcome::default()
        }
    }

    /// Cancelled before it began.
    pub(crate) fn cancelled() -> Outcome {
        Outcome { status: Some(Status::Cancelled), ..Outcome::default() }
    }

    /// A dry run that would have been executed.
    pub(crate) fn dry_run() -> Outcome {
        Outcome { status: Some(Status::Finished), result: void_api::dry_run_result(), ..Outcome::default() }
    }
}

/// Concludes how a run ended. `command`: it was a WASI command, which has outputs and an exit code even where it says
/// nothing of them.
pub(crate) fn conclude(facts: Facts, limits: &Limits, command: bool) -> Outcome {
    let mut outcome = match (facts.verdict, &facts.end) {
        (Some(verdict), _) => judged(verdict, limits),
        (None, Some(end)) => claimed(end, limits),
        (None, None) => vanished(&facts),
    };
    outcome.exit_code = match facts.end.as_ref().map(|end| &end.claim) {
        Some(Claim::Exited(code)) => Some(code.cast_signed()),
        Some(Claim::Returned(_)) if command => Some(0),
        _ => None,
    };
    outcome.executed = Some(facts.wall);
    outcome.usage = Usage {
        // One thread uses no more CPU time than goes by. The kernel's account also holds what the process used before
        // its order and after its guest, which is no part of the run.
        cpu_ms: rounded_ms(facts.cpu.min(facts.wall)),
        wall_ms: rounded_ms(facts.wall),
        wait_ms: rounded_ms(facts.wait),
        mem_pages: {
            let claimed = facts.end.as_ref().map_or(0, |end| end.mem_pages);
            u64::from(claimed.max(facts.mem_pages).min(limits.mem_pages))
        },
        syscalls: facts.calls,
    };
    let (stdout, stderr) = facts.output.into_streams();
    outcome.written = [stdout, stderr].map(|kept| {
        let (text, cut) = kept.into_text();
        (command || cut || !text.is_empty()).then_some((text, cut))
    });
    outcome.denials = facts.denials;
    outcome
}

fn rounded_ms(time: std::time::Duration) -> u64 {
    u64::try_from((time.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

fn judged(verdict: Verdict, limits: &Limits) -> Outcome {
    match verdict {
        Verdict::Cpu => Outcome::error(
            Reason::CpuBudget,
            format!(
                "the guest used its {} ms of CPU time: let it do less, or raise WASM_CPU_MS_BUDGET",
                limits.cpu_ms
            ),
        ),
        Verdict::Wall => Outcome::error(
            Reason::WallBudget,
            format!(
                "the run took longer than {} ms: let it do less, or raise WASM_WALL_MS_BUDGET",
                limits.wall_ms
            ),
        ),
        Verdict::Cancelled => Outcome::cancelled(),
        Verdict::Protocol => Outcome::error(
            Reason::WorkerCrashed,
            "the run's process said what no sound worker says and was killed: report it, the module may have broken out",
        ),
        Verdict::Calls => Outcome::error(
            Reason::SyscallBudget,
            format!(
                "the guest made more than {} gateway calls: let it call less, or raise WASM_SYSCALL_MAX",
                limits.syscalls_max
            ),
        ),
        Verdict::Output => Outcome::error(
            Reason::Output,
            format!("the guest wrote more than {} MiB: let it write less", MOST_BYTES >> 20),
        ),
        Verdict::Unanswered => Outcome::error(
            Reason::Internal,
            "an answer to the guest could not be sent: report it with the module",
        ),
    }
}

fn vanished(facts: &Facts) -> Outcome {
    let how = match facts.exit.map(|exit| (exit.signal(), exit.status)) {
        Some((Some(libc::SIGSYS), _)) => "it made a kernel syscall that it may not make".to_owned(),
        Some((Some(signal), _)) => format!("signal {signal}"),
        Some((None, status)) => format!("exit status {}", (status >> 8) & 0xff),
        None => "its zygote died with it".to_owned(),
    };
    Outcome::error(
        Reason::WorkerCrashed,
        format!(
            "the run's process ended before the run did ({how}): try again; if it stays so, report it with the module"
        ),
    )
}

fn claimed(end: &RunEnd, limits: &Limits) -> Outcome {
    match &end.claim {
        Claim::Returned(values) => {
            let values: Vec<Value> = values.iter().map(|value| from_wire(*value)).collect();
            match serde_json::value::to_raw_value(&results_json(&values)) {
                Ok(result) => {
                    Outcome { status: Some(Status::Finished), result: Some(result), ..Outcome::default() }
                }
                Err(error) => {
                    Outcome::error(Reason::Internal, format!("the result cannot be written: {error}"))
                }
            }
        }
        Claim::Trapped(trap) if trap.stack => Outcome::error(
            Reason::Stack,
            with_backtrace("the guest exhausted its stack: let it recurse less deeply", trap),
        ),
        Claim::Trapped(trap) if end.growth_refused => {
            Outcome::error(Reason::Memory, with_backtrace(&out_of_memory(limits), trap))
        }
        Claim::Trapped(trap) => Outcome::error(Reason::Trap, with_backtrace(&trap.message, trap)),
        Claim::Exited(0) => Outcome { status: Some(Status::Finished), ..Outcome::default() },
        Claim::Exited(code) => Outcome::error(
            Reason::Exit,
            format!("the guest exited with code {}: what it wrote to stderr may say why", code.cast_signed()),
        ),
        Claim::TooLarge { pages } => Outcome::error(Reason::Memory, too_large(*pages, limits)),
        Claim::NoSuchExport | Claim::TypeMismatch => Outcome::error(
            Reason::Internal,
            "the worker's module is not the one that was described: report it with the module",
        ),
    }
}

fn out_of_memory(limits: &Limits) -> String {
    format!(
        "the guest asked for more than {} pages of 64 KiB, was refused and trapped: let it use less, or raise \
         WASM_MEM_PAGES_MAX",
        limits.mem_pages
    )
}

fn too_large(pages: u32, limits: &Limits) -> String {
    format!(
        "the module begins with {pages} pages of 64 KiB and may have {}: build it smaller, or raise WASM_MEM_PAGES_MAX",
        limits.mem_pages
    )
}

/// Why a module could not be loaded, as the end of the run that needed it.
pub(crate) fn unloadable(why: &Unloadable, limits: &Limits) -> Outcome {
    match why {
        Unloadable::Memory(detail) => larger_than_allowed(detail, limits),
        Unloadable::Trap(detail) => Outcome::error(Reason::Trap, detail.clone()),
        Unloadable::Import(name) => Outcome::error(Reason::ModuleInvalid, unknown_import(name)),
        Unloadable::Engine(detail) => {
            Outcome::error(Reason::ModuleInvalid, format!("the engine refuses the module: {detail}"))
        }
    }
}

/// The module needs more at its start than any run may have.
pub(crate) fn larger_than_allowed(detail: &str, limits: &Limits) -> Outcome {
    Outcome::error(
        Reason::Memory,
        format!(
            "the module needs more at its start than {} pages of 64 KiB and 1,000,000 table elements ({detail}): build \
             it smaller, or raise WASM_MEM_PAGES_MAX",
            limits.mem_pages
        ),
    )
}

/// The sentence for an import that is not offered.
pub(crate) fn unknown_import(name: &str) -> String {
    format!("the module imports {name}, which is not offered here: build it without")
}

fn with_backtrace(message: &str, trap: &Trap) -> String {
    let mut text = message.to_owned();
    if !trap.backtrace.is_empty() {
        text.push_str("\nwasm backtrace:");
        for (number, frame) in trap.backtrace.iter().enumerate() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n  {number}: {frame}");
        }
    }
    text
}

fn from_wire(value: WireValue) -> Value {
    match value {
        WireValue::I32(value) => Value::I32(value),
        WireValue::I64(value) => Value::I64(value),
        WireValue::F32(bits) => Value::F32(bits),
        WireValue::F64(bits) => Value::F64(bits),
        WireValue::V128(bits) => Value::V128(bits.to_le_bytes()),
    }
}

/// A value on its way to a worker.
pub(crate) fn to_wire(value: &Value) -> WireValue {
    match *value {
        Value::I32(value) => WireValue::I32(value),
        Value::I64(value) => WireValue::I64(value),
        Value::F32(bits) => WireValue::F32(bits),
        Value::F64(bits) => WireValue::F64(bits),
        Value::V128(bytes) => WireValue::V128(u128::from_le_bytes(bytes)),
    }
}
