//! Input repeated in a sentence: at most [`CLIP_CHARS`] characters, control characters escaped. Nothing else.

use std::fmt::{self, Write};

/// Characters of the input that a sentence repeats.
const CLIP_CHARS: usize = 64;

/// A piece of untrusted text that prints bounded and without control characters.
#[derive(Debug, Clone, Copy)]
pub struct Clip<'a>(&'a str);

/// Makes `text` safe to repeat in an error, a log line or a terminal.
pub fn clip(text: &str) -> Clip<'_> {
    Clip(text)
}

impl fmt::Display for Clip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(CLIP_CHARS) {
            if is_unprintable(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
    }
}

/// Control characters, line separators, and the invisible ones that reorder or hide the text around them.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_said_to_be() {
        assert_eq!(clip(&"ä".repeat(64)).to_string(), "ä".repeat(64));
        assert_eq!(clip(&"ä".repeat(65)).to_string(), format!("{}…", "ä".repeat(64)));
    }

    #[test]
    fn control_and_reordering_characters_are_escaped() {
        assert_eq!(clip("a\n\x1b[31m\u{202e}b").to_string(), "a\\n\\u{1b}[31m\\u{202e}b");
    }
}
