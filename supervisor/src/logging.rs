//! The log: lines on stderr, for people where that is a terminal and as JSON where it is not. No decision about what is
//! logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Where the usual variable for filters is looked for.
const FILTER: &str = "RUST_LOG";

/// Begins logging. Called once, before anything that may have something to say.
pub(crate) fn init() {
    let (filter, refused) = match std::env::var(FILTER) {
        Ok(text) if !text.trim().is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new("info"), Some(error)),
        },
        _ => (EnvFilter::new("info"), None),
    };
    let terminal = std::io::stderr().is_terminal();
    // Who reads the log may be gone. That is no reason to stop, and saying so on stderr would be one: it panics there.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // Colour would be noise in a file; a second initialisation, as in tests, changes nothing.
    let _ = if terminal {
        log.with_ansi(std::env::var_os("NO_COLOR").is_none()).try_init()
    } else {
        log.with_ansi(false)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    if let Some(error) = refused {
        tracing::warn!(%error, "{FILTER} is not a filter and was ignored: give for example info or void_supervisor=debug");
    }
}
