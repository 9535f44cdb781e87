//! An ended run, as the shell gets it: the result on stdout, the rest on stderr, the outcome as exit code.

use std::process::ExitCode;

use void_api::{Mode, Reason, RunRecord, Status};

use crate::client::Answer;
use crate::failure::{Failure, code};
use crate::output::{guest_stderr, guest_stdout, hint, line, note};

/// Shows the record of an ended run.
pub(crate) fn ended(answer: &Answer, record: &RunRecord, json: bool) -> Result<ExitCode, Failure> {
    let code = match record.status {
        Status::Finished => 0,
        // A frozen run never executes: who waits for its result must not take it for done.
        Status::Error | Status::Cancelled | Status::Frozen | Status::Accepted | Status::Running => {
            code::RUN_ERROR
        }
    };
    let shown = if json { line(answer.text()) } else { in_words(record) };
    match shown {
        Ok(()) => Ok(ExitCode::from(code)),
        // How the run ended is known, also where nobody reads what it wrote.
        Err(Failure::OutputClosed) if code != 0 => Ok(ExitCode::from(code)),
        Err(failure) => Err(failure),
    }
}

fn in_words(record: &RunRecord) -> Result<(), Failure> {
    let run_id = record.run_id;
    if let Some(text) = record.stderr.as_deref().filter(|text| !text.is_empty()) {
        guest_stderr(text);
        if !text.ends_with('\n') {
            note("");
        }
    }
    for denial in &record.denials {
        note(&format!(
            "void-wasm: {} denied ({} times): {}; {}",
            denial.kind, denial.count, denial.reason, denial.remedy
        ));
    }
    match record.status {
        Status::Finished if record.mode == Mode::DryRun => note(&format!(
            "void-wasm: {run_id} was checked and not executed: the canary share (WASM_EXEC_CANARY) did not choose it"
        )),
        Status::Finished => hint(&format!("{run_id} finished: {}", spent(record))),
        Status::Error => note(&format!("void-wasm: {}", why(record))),
        Status::Cancelled => note(&format!("void-wasm: {run_id} was cancelled")),
        Status::Frozen => note(&format!(
            "void-wasm: {run_id} was accepted during a freeze and will never execute: send it again after the thaw"
        )),
        Status::Accepted | Status::Running => note(&format!("void-wasm: {run_id} is {}", record.status)),
    }
    for (name, cut) in [("stdout", record.stdout_truncated), ("stderr", record.stderr_truncated)] {
        if cut {
            note(&format!(
                "void-wasm: {name} was longer than is kept (WASM_OUTPUT_MAX_BYTES): its end is missing"
            ));
        }
    }
    result(record)
}

fn result(record: &RunRecord) -> Result<(), Failure> {
    let stdout = record.stdout.as_deref().unwrap_or_default();
    guest_stdout(stdout)?;
    let Some(result) = &record.result else { return Ok(()) };
    if !stdout.is_empty() && !stdout.ends_with('\n') {
        line("")?;
    }
    line(result.get())
}

fn spent(record: &RunRecord) -> String {
    let usage = record.usage;
    format!(
        "{} ms, of it {} ms CPU, {} pages of memory, {} gateway calls",
        usage.wall_ms, usage.cpu_ms, usage.mem_pages, usage.syscalls
    )
}

fn why(record: &RunRecord) -> String {
    let reason = record.reason.map_or("no reason given", Reason::as_str);
    let said = record.error.as_deref().unwrap_or_default();
    let colon = if said.is_empty() { "" } else { ": " };
    let next = record.reason.map_or("", next_step);
    format!("{} ended in error, {reason}{colon}{}{next}", record.run_id, said.trim_end())
}

/// What the user of this command can do; what the service's own sentence says is not repeated.
fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::ModuleNotFound => "\n  next: void-wasm modules push FILE.wasm, or give exec the file itself",
        Reason::EntryNotFound | Reason::EntryTypeMismatch => {
            "\n  next: void-wasm modules show CID lists the exports and their types"
        }
        Reason::WorkerCrashed | Reason::Interrupted => {
            "\n  next: the same command again; with --idempotency-key use a new key"
        }
        Reason::Internal => "\n  next: the service's log says more",
        _ => "",
    }
}
