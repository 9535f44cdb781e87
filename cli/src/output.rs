//! Writing to stdout and stderr: quiet when the reader has gone, and harmless to a terminal.

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::failure::Failure;

/// One line of the result.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    raw(format!("{}\n", for_stdout(text)).as_bytes())
}

/// Bytes of the result, as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Local(format!("the result cannot be written: {error}")),
    })
}

/// What a guest wrote to its stdout: unchanged into a file or pipe, without control over a terminal.
pub(crate) fn guest_stdout(text: &str) -> Result<(), Failure> {
    raw(for_stdout(text).as_bytes())
}

/// What a guest wrote to its stderr.
pub(crate) fn guest_stderr(text: &str) {
    let shown = if io::stderr().is_terminal() { harmless(text) } else { text.to_owned() };
    to_stderr(shown.as_bytes());
}

/// A line for the person, never part of the result.
pub(crate) fn note(text: &str) {
    to_stderr(format!("{}\n", harmless(text)).as_bytes());
}

/// A line that only helps a person at a terminal.
pub(crate) fn hint(text: &str) {
    if io::stderr().is_terminal() {
        note(text);
    }
}

fn to_stderr(bytes: &[u8]) {
    // Where stderr is closed there is nobody to tell.
    let _ = io::stderr().lock().write_all(bytes);
}

fn for_stdout(text: &str) -> String {
    if io::stdout().is_terminal() { harmless(text) } else { text.to_owned() }
}

/// Text from a guest or a server with what could steer a terminal, or what the terminal cannot show, escaped.
fn harmless(text: &str) -> String {
    escape(text, speaks_utf8())
}

fn escape(text: &str, utf8: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        let steers = letter.is_control() && !matches!(letter, '\n' | '\t');
        let reorders =
            matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        if steers || reorders || !utf8 && !letter.is_ascii() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// What the locale says of the terminal; the first that is set counts.
fn speaks_utf8() -> bool {
    let set =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os).find(|value| !value.is_empty());
    set.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(escape("a\tb\n\x1b[31mred\r", true), "a\tb\n\\u{1b}[31mred\\r");
        assert_eq!(escape("grün \u{202e}", true), "grün \\u{202e}");
        assert_eq!(escape("grün", false), "gr\\u{fc}n");
    }
}
