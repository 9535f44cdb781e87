//! Why a command did not do what was asked, and the exit code that says so.

use std::process::ExitCode;

use void_api::{Problem, ProblemCode};

use crate::output::note;

/// Exit codes; the larger ones are sysexits.h's.
pub(crate) mod code {
    /// The run ended in error, or never executed.
    pub(crate) const RUN_ERROR: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// EX_UNAVAILABLE.
    pub(crate) const UNREACHABLE: u8 = 69;
    /// EX_IOERR.
    pub(crate) const LOCAL: u8 = 74;
    /// EX_TEMPFAIL.
    pub(crate) const TRY_AGAIN: u8 = 75;
    /// EX_NOPERM.
    pub(crate) const REFUSED: u8 = 77;
    /// 128 and SIGINT's number, as shells do.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// A command's failure. Each text is one sentence, followed by what to do where that is not plain from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// No answer, or none from such a service.
    #[error("{0}")]
    Unreachable(String),
    /// The service says that it would take this another time.
    #[error("{}", try_again(.0, *.1))]
    TryAgain(Box<Problem>, Option<u64>),
    /// The service says no.
    #[error("{}", refused(.0))]
    Refused(Box<Problem>),
    /// The service failed.
    #[error("the service failed: {0}: its log says more")]
    Service(Box<Problem>),
    /// The user's Ctrl-C.
    #[error("interrupted{0}")]
    Interrupted(String),
    /// Something on this machine: a file, the output.
    #[error("{0}")]
    Local(String),
    /// Who read the output has gone: nothing is left to say.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    /// The failure that a problem is.
    pub(crate) fn from_problem(problem: Problem, retry_after: Option<u64>) -> Self {
        let problem = Box::new(problem);
        match problem.status {
            429 | 503 => Self::TryAgain(problem, retry_after),
            500.. => Self::Service(problem),
            _ => Self::Refused(problem),
        }
    }

    /// A file or the output that cannot be used.
    pub(crate) fn file(path: &std::path::Path, what: &str, error: &std::io::Error) -> Self {
        Self::Usage(format!("{}: cannot be {what}: {error}", path.display()))
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => code::USAGE,
            Self::Unreachable(_) | Self::Service(_) => code::UNREACHABLE,
            Self::TryAgain(..) => code::TRY_AGAIN,
            Self::Refused(_) => code::REFUSED,
            Self::Interrupted(_) => code::INTERRUPTED,
            Self::Local(_) => code::LOCAL,
            Self::OutputClosed => 0,
        }
    }

    /// Says on stderr what went wrong, with `json` as the problem document where there is one.
    pub(crate) fn show(&self, json: bool) -> ExitCode {
        match self {
            Self::OutputClosed => {}
            Self::TryAgain(problem, _) | Self::Refused(problem) | Self::Service(problem) if json => {
                note(&String::from_utf8_lossy(&problem.to_json()));
            }
            _ => note(&format!("void-wasm: {self}")),
        }
        ExitCode::from(self.exit_code())
    }
}

fn try_again(problem: &Problem, retry_after: Option<u64>) -> String {
    let when = retry_after.map_or_else(String::new, |seconds| format!(" (try again in {seconds} s)"));
    format!("not now: {problem}{when}")
}

/// With what this command's user can do, where the server cannot know it.
fn refused(problem: &Problem) -> String {
    let advice = match problem.code {
        ProblemCode::Unauthorized => "; give the tenant's token with --token or VOID_WASM_TOKEN",
        ProblemCode::RunNotFound => "; `void-wasm runs` lists the runs there are",
        ProblemCode::ModuleNotFound => "; `void-wasm modules push FILE.wasm` uploads one",
        ProblemCode::InvalidTarget => "; a path to a file ends in .wasm",
        _ => "",
    };
    format!("refused: {problem}{advice}")
}
