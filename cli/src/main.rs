//! `void-wasm`: the service from a shell.
//!
//! Only the result goes to stdout; progress, notes and refusals go to stderr. What must not enter: anything that the
//! server decides. The command knows the API's types, and nothing of how a run is executed.

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod arguments_of_call;
mod cancel;
mod client;
mod events;
mod exec;
mod failure;
mod follow;
mod generated;
mod interrupt;
mod modules;
mod output;
mod progress;
mod report;
mod request;
mod runs;
mod service;
mod stream;
mod table;
mod target;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::arguments::{Action, Cli};
use crate::client::Client;
use crate::failure::Failure;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::Local(format!("the system gives no resources to start: {error}")).show(false);
        }
    };
    let json = cli.json;
    match runtime.block_on(run(cli, &matches)) {
        Ok(code) => code,
        Err(failure) => failure.show(json),
    }
}

async fn run(cli: Cli, matches: &clap::ArgMatches) -> Result<ExitCode, Failure> {
    let json = cli.json;
    let (server, token) = (cli.server().to_owned(), cli.token);
    let connect = || Client::new(&server, token.as_deref());
    match cli.action {
        Action::Exec(exec) => {
            let call = arguments_of_call::in_order(matches)?;
            exec::run(&mut connect()?, exec, call, json).await
        }
        Action::Runs(runs) => runs::run(&mut connect()?, runs, json).await,
        Action::Cancel { run_id } => cancel::run(&mut connect()?, run_id, json).await,
        Action::Modules(modules) => modules::run(&mut connect()?, modules, json).await,
        Action::Events(events) => events::run(&mut connect()?, &events, json).await,
        Action::Policy => service::policy(&mut connect()?, json).await,
        Action::Status => service::status(&mut connect()?, json).await,
        Action::Completions { shell } => generated::completions(shell),
        Action::Man { folder } => generated::man_pages(&folder),
    }
}
