//! What may stand on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use void_api::{Mode, RunId, Status};

const DEFAULT_SERVER: &str = "http://127.0.0.1:3456";
/// The heading of what every command takes.
const SERVICE: &str = "Service";

/// Runs WebAssembly on a void-wasm service.
#[derive(Parser)]
#[command(
    name = "void-wasm",
    version,
    after_help = "Exit codes: 0 finished, or accepted without --wait; 1 the run ended in error, was cancelled or is frozen; \
                  2 wrong usage; 69 server unreachable; 74 the output cannot be written; 75 try again later (429, 503); \
                  77 refused; 130 interrupted."
)]
pub(crate) struct Cli {
    /// Where the service is: http://HOST:PORT, https://HOST or unix:/PATH
    #[arg(
        long,
        env = "VOID_WASM_SERVER",
        default_value = DEFAULT_SERVER,
        global = true,
        value_name = "URL",
        help_heading = SERVICE
    )]
    server: String,
    /// The tenant's token
    #[arg(long, env = "VOID_WASM_TOKEN", hide_env_values = true, global = true, help_heading = SERVICE)]
    pub(crate) token: Option<String>,
    /// Prints what the server answered, as JSON
    #[arg(long, global = true, help_heading = SERVICE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) action: Action,
}

impl Cli {
    /// The server; a variable that is set to nothing counts as not set.
    pub(crate) fn server(&self) -> &str {
        if self.server.is_empty() { DEFAULT_SERVER } else { &self.server }
    }
}

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Executes a function of a module, or a WASI command
    Exec(Box<ExecArguments>),
    /// Lists runs, newest first, or shows one
    Runs(RunsArguments),
    /// Ends a run
    Cancel {
        /// The run, as `exec` printed it
        run_id: RunId,
    },
    /// Uploads a module, or shows what one offers
    #[command(subcommand)]
    Modules(ModulesAction),
    /// Prints events as they happen, until interrupted
    Events(EventsArguments),
    /// Shows the policy in force
    Policy,
    /// Shows whether the service would take a run
    Status,
    /// Prints a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a folder
    Man {
        /// An existing folder
        folder: PathBuf,
    },
}

/// The typed values are read from the matches, in their order: see `arguments_of_call`.
#[derive(Args)]
pub(crate) struct ExecArguments {
    /// A CID, sha256:DIGEST (an AST hash, or the bytes' digest), or a path to a .wasm file, which is uploaded first
    pub(crate) target: OsString,
    /// The export to call, such as `add` or `add(i32,i32)->i32`; without it a WASI command's `_start`
    #[arg(long)]
    pub(crate) entry: Option<String>,
    /// An argument of type i32; typed arguments keep their order across types
    #[arg(long = "i32", value_name = "N", allow_hyphen_values = true)]
    i32s: Vec<String>,
    /// An argument of type i64
    #[arg(long = "i64", value_name = "N", allow_hyphen_values = true)]
    i64s: Vec<String>,
    /// An argument of type f32; also NaN, Infinity, -Infinity
    #[arg(long = "f32", value_name = "X", allow_hyphen_values = true)]
    f32s: Vec<String>,
    /// An argument of type f64; also NaN, Infinity, -Infinity
    #[arg(long = "f64", value_name = "X", allow_hyphen_values = true)]
    f64s: Vec<String>,
    /// An argument of whatever type the export takes, as JSON
    #[arg(long = "arg", value_name = "JSON", allow_hyphen_values = true)]
    args: Vec<String>,
    /// Labels, as a JSON object of strings
    #[arg(long, value_name = "JSON")]
    pub(crate) labels: Option<String>,
    /// One label; outranks the same one in --labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// A WASI command's standard input: a file, or - for this command's own
    #[arg(long, value_name = "FILE|-")]
    pub(crate) stdin: Option<PathBuf>,
    /// A variable of a WASI command's environment
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Makes repeating this command safe: the same key and request give the same run
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Follows the run to its end and prints its result
    #[arg(long)]
    pub(crate) wait: bool,
    /// On Ctrl-C, also ends the run
    #[arg(long, requires = "wait")]
    pub(crate) cancel_on_interrupt: bool,
    /// After --: arguments of a WASI command, following its name
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,
}

#[derive(Args)]
pub(crate) struct RunsArguments {
    /// The run to show
    pub(crate) run_id: Option<RunId>,
    /// With a run: waits for its end and prints its result, as `exec --wait` does. Without one: oldest first, then each
    /// run as it begins and ends, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only runs that stand so: accepted, running, finished, error, cancelled, frozen
    #[arg(long, conflicts_with = "run_id")]
    pub(crate) status: Option<Status>,
    /// Only runs admitted so: live, canary, dry-run, frozen
    #[arg(long, conflicts_with = "run_id")]
    pub(crate) mode: Option<Mode>,
    /// Only runs with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "run_id")]
    pub(crate) label: Vec<(String, String)>,
    /// At most so many
    #[arg(long, default_value_t = 20, conflicts_with = "run_id")]
    pub(crate) limit: u32,
    /// Where the page before said that it goes on
    #[arg(long, conflicts_with_all = ["run_id", "follow"])]
    pub(crate) cursor: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum ModulesAction {
    /// Uploads a .wasm file and prints its CID
    Push {
        /// The file
        file: PathBuf,
    },
    /// Shows what a module exports and imports
    Show {
        /// Its CID
        cid: String,
    },
}

#[derive(Args)]
pub(crate) struct EventsArguments {
    /// Only events of this type, such as wasm.exec.finished
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only events of this run
    #[arg(long, value_name = "RUN_ID")]
    pub(crate) run_id: Option<RunId>,
    /// Begins after the event with this id
    #[arg(long, value_name = "EVENT_ID")]
    pub(crate) after: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give a key, an equals sign and a value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
