//! The text of the file that `WASM_ENV_FILE` names, in systemd's `EnvironmentFile=` syntax.
//!
//! As systemd reads it: `#` and `;` begin a comment line; a value may stand in single or double quotes, also in several
//! that follow each other, over several lines; in single quotes everything is literal, in double quotes a backslash
//! takes the meaning of `"`, `\`, `` ` `` and `$`; outside, a backslash makes the next character literal and joins lines;
//! spaces around a value that is not quoted are cut; nothing is substituted. Where systemd skips a line that it does not
//! understand (no `=`, `export A=b`, an open quote), this is an error: a freeze that is misspelled must not pass in
//! silence. A comment that ends in a backslash is an error too, since systemd's versions differ on what follows it.
//!
//! Its own parser, because the usual one for such files substitutes variables, takes `export` and has no `;` comments.

/// A line that is not understood. No message repeats a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// Not an assignment.
    #[error("environment file, line {0}: write NAME=value, or # and a comment")]
    Form(usize),
    /// A name with other characters than letters, digits and `_`; `export NAME` is one.
    #[error(
        "environment file, line {0}: a name has letters, digits and \"_\" only, and nothing stands before it, not export"
    )]
    Name(usize),
    /// A quote that is never closed.
    #[error("environment file, line {0}: the quote that begins here is not closed")]
    Quote(usize),
    /// A comment that seems to go on.
    #[error("environment file, line {0}: a comment must not end in a backslash; begin each line with #")]
    Comment(usize),
    /// A NUL character.
    #[error("environment file, line {0}: it holds a NUL character; remove it")]
    Nul(usize),
}

/// Reads the assignments in their order; a later one of a name wins over an earlier.
///
/// # Errors
/// The first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut cursor = Cursor { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut vars = Vec::new();
    loop {
        cursor.skip(|c| c.is_whitespace());
        match cursor.rest.chars().next() {
            None => return Ok(vars),
            Some('#' | ';') => cursor.comment()?,
            Some(_) => vars.push(cursor.assignment()?),
        }
    }
}

/// The text that is left, and where it is.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

const fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip(&mut self, whom: impl Fn(char) -> bool) {
        while self.rest.starts_with(&whom) {
            self.next();
        }
    }

    fn comment(&mut self) -> Result<(), EnvFileError> {
        let end = self.rest.find(ends_line).unwrap_or(self.rest.len());
        let (comment, rest) = self.rest.split_at(end);
        self.rest = rest;
        if comment.ends_with('\\') { Err(EnvFileError::Comment(self.line)) } else { Ok(()) }
    }

    fn assignment(&mut self) -> Result<(String, String), EnvFileError> {
        let line = self.line;
        let end = self.rest.find(|c| c == '=' || ends_line(c)).ok_or(EnvFileError::Form(line))?;
        let (name, rest) = self.rest.split_at(end);
        let rest = rest.strip_prefix('=').ok_or(EnvFileError::Form(line))?;
        let name = name.trim_end();
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(EnvFileError::Name(line));
        }
        let name = name.to_owned();
        self.rest = rest;
        let value = self.value()?;
        if value.contains('\0') { Err(EnvFileError::Nul(line)) } else { Ok((name, value)) }
    }

    /// Quoted pieces, then at most one that is not quoted, to the end of the line.
    fn value(&mut self) -> Result<String, EnvFileError> {
        let mut value = String::new();
        loop {
            self.skip(|c| c.is_whitespace() && !ends_line(c));
            match self.rest.chars().next() {
                Some('\'') => self.single(&mut value)?,
                Some('"') => self.double(&mut value)?,
                Some(c) if !ends_line(c) => {
                    self.bare(&mut value);
                    return Ok(value);
                }
                _ => return Ok(value),
            }
        }
    }

    fn single(&mut self, value: &mut String) -> Result<(), EnvFileError> {
        let line = self.line;
        self.next();
        loop {
            match self.next().ok_or(EnvFileError::Quote(line))? {
                '\'' => return Ok(()),
                c => value.push(c),
            }
        }
    }

    fn double(&mut self, value: &mut String) -> Result<(), EnvFileError> {
        let line = self.line;
        self.next();
        loop {
            match self.next().ok_or(EnvFileError::Quote(line))? {
                '"' => return Ok(()),
                '\\' => match self.next().ok_or(EnvFileError::Quote(line))? {
                    c @ ('"' | '\\' | '`' | '$') => value.push(c),
                    '\n' => {}
                    c => value.extend(['\\', c]),
                },
                c => value.push(c),
            }
        }
    }

    fn bare(&mut self, value: &mut String) {
        // Spaces at the end are cut, but not one that a backslash made literal.
        let mut kept = value.len();
        while let Some(c) = self.rest.chars().next().filter(|c| !ends_line(*c)) {
            self.next();
            match c {
                '\\' => match self.next() {
                    None | Some('\n') => {}
                    Some('\r') => {
                        if self.rest.starts_with('\n') {
                            self.next();
                        }
                    }
                    Some(literal) => {
                        value.push(literal);
                        kept = value.len();
                    }
                },
                c => {
                    value.push(c);
                    if !c.is_whitespace() {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> String {
        let vars = parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(vars.len(), 1, "{text:?}");
        assert_eq!(vars[0].0, "A", "{text:?}");
        vars[0].1.clone()
    }

    #[test]
    fn values() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("  A =  b c  \n", "b c"),
            ("A=b # not a comment", "b # not a comment"),
            ("A=b;c", "b;c"),
            ("A='b $X \\ \"'", "b $X \\ \""),
            ("A=\"b \\\"c\\\" \\$X \\n\"", "b \"c\" $X \\n"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=\"b\nc\"", "b\nc"),
            ("A='b' \"c\"d", "bcd"),
            ("A=b'c'", "b'c'"),
            ("A=b\\\nc", "bc"),
            ("A=b\\\r\nc\r\n", "bc"),
            ("A=b\\ ", "b "),
            ("A=b\\\\c", "b\\c"),
            ("A=$B ${C}", "$B ${C}"),
            ("A=b=c", "b=c"),
            ("\u{feff}A=b\r\n", "b"),
            ("# x\n; y\n\n\tA=b\n#z", "b"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
    }

    #[test]
    fn later_lines_stay_behind_earlier_ones() {
        let vars = parse("A=1\nB='\n'\nA=2\n").unwrap();
        let expected = [("A", "1"), ("B", "\n"), ("A", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(vars, expected);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_systemd_would_skip_is_an_error_with_its_line() {
        for (text, error) in [
            ("A=1\nWASM_EXEC_FREEZE\n", EnvFileError::Form(2)),
            ("x", EnvFileError::Form(1)),
            ("export A=b", EnvFileError::Name(1)),
            ("=b", EnvFileError::Name(1)),
            ("1A=b", EnvFileError::Name(1)),
            ("A-B=c", EnvFileError::Name(1)),
            ("\n\nA='b\nc\n", EnvFileError::Quote(3)),
            ("A=\"b\\", EnvFileError::Quote(1)),
            ("# a\\\nA=b", EnvFileError::Comment(1)),
            ("A=b\0", EnvFileError::Nul(1)),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[A=b'\"\\\\#;\n\r $]{0,20}|.*") {
            let _ = parse(&text);
        }

        #[test]
        fn any_value_can_be_written_in_single_quotes(value in "[^'\0]*") {
            prop_assert_eq!(parse(&format!("A='{value}'")), Ok(vec![("A".into(), value)]));
        }
    }
}
