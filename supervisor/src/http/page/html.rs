//! Writing HTML in which nothing that came from outside can be markup: tags are constants of the program, everything
//! else is escaped.

use std::fmt::{self, Write};

/// A page on its way.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, or an attribute's value in double quotes.
    pub(super) fn text(&mut self, text: impl fmt::Display) -> &mut Self {
        // Writing to a String does not fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// The page.
    pub(super) fn done(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Neither control characters nor what turns the text around.
                letter if letter.is_control() => self.0.push('\u{fffd}'),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    self.0.push('\u{fffd}');
                }
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_is_never_markup() {
        let mut html = Html::default();
        html.raw("<p title=\"")
            .text("\"><script>alert('&')</script>")
            .raw("\">")
            .text("a\u{1b}[m\u{202e}b")
            .raw("</p>");
        assert_eq!(
            html.done(),
            "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\">a\u{fffd}[m\u{fffd}b</p>"
        );
    }
}
