//! Taking a secret out of what a guest is given. Works on whole texts: where a piece of an answer ends must not matter.
//!
//! A host that is given a secret may show it in an error page or an echo. It is recognised whatever mix of JSON,
//! percent-encoding and HTML each of its characters is written in, also one within the other, in upper and lower case; and so is its part that is secret by itself: what
//! stands behind a scheme (`Bearer`), and each value of cookies. A host that shows it in other ways (in base64, encrypted,
//! reversed, letter by letter) is not recognised: the operator chose to trust it.

use std::fmt;

use super::search::Needles;

/// What stands in a secret's place.
const MARK: &[u8] = b"***";
/// A part of a value that is shorter is not looked for by itself: it would be found everywhere.
const PART_MIN_BYTES: usize = 8;

/// Secrets to be taken out, in all forms that are recognised.
#[derive(Clone, Default)]
pub struct Redactor(Needles);

impl Redactor {
    /// Adds the value of a header (its name in lower case). An empty one is none.
    pub fn add(&mut self, header: &str, value: &str) {
        self.0.add(value);
        if header == "cookie" {
            let pairs = value.split(';').filter_map(|pair| pair.split_once('='));
            pairs.for_each(|(_, value)| self.add_part(value.trim().trim_matches('"')));
        } else if let Some((_, credential)) = value.rsplit_once([' ', '\t']) {
            self.add_part(credential);
        }
    }

    fn add_part(&mut self, part: &str) {
        if part.len() >= PART_MIN_BYTES {
            self.0.add(part);
        }
    }

    /// Whether there is nothing to take out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a secret stands in there.
    #[must_use]
    pub fn finds(&self, text: &[u8]) -> bool {
        self.0.find(text)
    }

    /// Replaces each secret by `***`, or by as many stars as a shorter one has bytes: the text never grows.
    #[must_use]
    pub fn clean(&self, mut text: Vec<u8>) -> Vec<u8> {
        let mut search = self.0.search();
        let (mut kept, mut end) = (0, 0);
        while let Some(found) = search.next(&text) {
            for stretch in found {
                let (moved, length) = (stretch.start - end, stretch.len());
                text.copy_within(end..stretch.start, kept);
                kept += moved;
                let mark = &MARK[..MARK.len().min(length)];
                text[kept..kept + mark.len()].copy_from_slice(mark);
                kept += mark.len();
                end = stretch.end;
            }
        }
        if end > 0 {
            text.copy_within(end.., kept);
            text.truncate(text.len() - (end - kept));
        }
        text
    }

    /// The same of a text that is told to the operator.
    #[must_use]
    pub fn clean_text(&self, text: &[u8]) -> String {
        String::from_utf8_lossy(&self.clean(text.to_vec())).into_owned()
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.len())
    }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
