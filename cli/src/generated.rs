//! What packagers need: completion scripts and manual pages, made from the command line's own definition.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::failure::Failure;
use crate::output::raw;

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "void-wasm", &mut script);
    raw(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `void-wasm.1` and a page for each subcommand.
pub(crate) fn man_pages(folder: &Path) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|error| Failure::file(folder, "written to (give an existing folder)", &error))?;
    Ok(ExitCode::SUCCESS)
}
