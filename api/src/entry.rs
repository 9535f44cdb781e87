//! Which export to call, and with what type.
//!
//! An export's name may be any text, so it has to be settled where a name ends and a signature begins:
//!
//! 1. `"…"`, a JSON string, at the start is the name, whatever it holds; a signature may follow.
//! 2. Otherwise a signature is what stands at the end in the form `(types)`, `(types)->type` or `(types)->(types)`.
//! 3. Otherwise, where the text plainly tries to be one, it is refused: a `)` with an arrow behind it, or, from its last
//!    `(` on, nothing at all or a word that looks like a type (a letter and digits as `i33`, or `…ref`).
//! 4. Otherwise the whole text is the name, without the spaces around it. Nothing at all is refused rather than taken
//!    for the empty name, which is more often a mistake than a name: that one is written in quotes.
//!
//! So `wasi:cli/run@0.2.0#run`, `a->b`, `odd(name)` and `a(b` are names as they stand, and the few names that look like
//! a signature are written in quotes. Spaces around the parts do not count; in a name that is not quoted, those inside
//! it do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::{ARGS_MAX, ENTRY_MAX_BYTES};
use crate::{TypeError, TypeName, ValType, clip};

/// The entry of a WASI command, and the default.
const COMMAND: &str = "_start";

/// An export and, if declared, its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The export's name.
    pub name: String,
    /// The type that the request declares; without one the export's own is used.
    pub signature: Option<Signature>,
}

/// A declared type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    /// The parameters.
    pub params: Vec<ValType>,
    /// The results; `None` where only parameters were declared.
    pub results: Option<Vec<ValType>>,
}

/// The text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Nothing but spaces.
    #[error(
        "the entry is empty; give an export's name (the empty name in double quotes), or leave entry out for _start"
    )]
    Empty,
    /// Longer than [`ENTRY_MAX_BYTES`].
    #[error("the entry is longer than {ENTRY_MAX_BYTES} bytes")]
    TooLong,
    /// A word that is no type.
    #[error("in entry \"{entry}\": {error}; a name that holds parentheses is written in double quotes")]
    Type {
        /// The entry, shortened.
        entry: String,
        /// What is wrong with the word.
        error: TypeError,
    },
    /// More types than a call may have.
    #[error("entry \"{0}\" declares more than {ARGS_MAX} types in one list")]
    TooManyTypes(String),
    /// A signature that is not finished, or without a name.
    #[error(
        "entry \"{0}\" is not a signature; write name(i32,i64)->f64, or the name in double quotes where it holds parentheses"
    )]
    Form(String),
}

/// The declared type and the module's differ, or the module's cannot be called from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// They differ.
    #[error(
        "entry \"{name}\" is declared {declared}, but the module exports it as {actual}; declare that type or none"
    )]
    Differs {
        /// The export, shortened.
        name: String,
        /// As the request has it.
        declared: String,
        /// As the module has it.
        actual: String,
    },
    /// A parameter or result has no JSON form.
    #[error("entry \"{name}\" is {actual}; {found} cannot be passed, only i32, i64, f32, f64 and v128 can")]
    Unsupported {
        /// The export, shortened.
        name: String,
        /// As the module has it.
        actual: String,
        /// The first type that cannot be passed.
        found: String,
    },
}

impl Default for Entry {
    /// `_start`
    fn default() -> Self {
        Self { name: COMMAND.to_owned(), signature: None }
    }
}

impl Entry {
    /// Compares the declared type with the actual one.
    ///
    /// # Errors
    /// They differ, or the actual one has a type that cannot be passed.
    pub fn check(&self, params: &[TypeName], results: &[TypeName]) -> Result<(), Mismatch> {
        let actual = || clip(&show_type(params, results)).to_string();
        let name = || clip(&self.name).to_string();
        if let Some(declared) = &self.signature {
            let results_fit = declared.results.as_ref().is_none_or(|types| same(types, results));
            if !same(&declared.params, params) || !results_fit {
                return Err(Mismatch::Differs { name: name(), declared: declared.shown(), actual: actual() });
            }
        }
        match params.iter().chain(results).find(|ty| ty.val().is_none()) {
            Some(found) => Err(Mismatch::Unsupported {
                name: name(),
                actual: actual(),
                found: clip(&found.to_string()).to_string(),
            }),
            None => Ok(()),
        }
    }
}

impl Signature {
    /// For a message: as [`show_type`], without results where none were declared.
    fn shown(&self) -> String {
        let list = |types: &[ValType]| types.iter().map(|ty| ty.as_str()).collect::<Vec<_>>().join(", ");
        let text = match &self.results {
            Some(results) => format!("({}) -> ({})", list(&self.params), list(results)),
            None => format!("({})", list(&self.params)),
        };
        clip(&text).to_string()
    }
}

fn same(declared: &[ValType], actual: &[TypeName]) -> bool {
    declared.len() == actual.len() && declared.iter().zip(actual).all(|(d, a)| a.val() == Some(*d))
}

/// A function's type for people: `(i32, i32) -> (i32)`.
pub(crate) fn show_type(params: &[TypeName], results: &[TypeName]) -> String {
    let list = |types: &[TypeName]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("({}) -> ({})", list(params), list(results))
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if text.len() > ENTRY_MAX_BYTES {
            return Err(EntryError::TooLong);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(EntryError::Empty);
        }
        if let Some((name, rest)) = quoted(text) {
            return quoted_entry(text, name, rest.trim());
        }
        match split(text) {
            Some(parts) => parts.judge(text),
            None if tries_to_be_a_signature(text) => Err(form(text)),
            None => Ok(Self { name: text.to_owned(), signature: None }),
        }
    }
}

fn form(text: &str) -> EntryError {
    EntryError::Form(clip(text).to_string())
}

/// A JSON string at the start, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    if !text.starts_with('"') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = stream.next()?.ok()?;
    Some((name, text.get(stream.byte_offset()..)?))
}

fn quoted_entry(text: &str, name: String, rest: &str) -> Result<Entry, EntryError> {
    if rest.is_empty() {
        return Ok(Entry { name, signature: None });
    }
    match split(rest) {
        Some(parts) if parts.name.is_empty() => {
            let signature = parts.signature().map_err(|error| error.in_entry(text))?;
            Ok(Entry { name, signature: Some(signature) })
        }
        _ => Err(form(text)),
    }
}

/// An entry taken apart by its parentheses and arrow; the types are not read yet.
struct Parts<'a> {
    name: &'a str,
    params: &'a str,
    results: Option<Results<'a>>,
}

enum Results<'a> {
    /// Behind the arrow in parentheses: any number of types.
    List(&'a str),
    /// Behind the arrow: one type.
    One(&'a str),
}

/// Takes the last `(…)`, `(…)->word` or `(…)->(…)` off the end.
fn split(text: &str) -> Option<Parts<'_>> {
    if let Some((before, last)) = take_list(text) {
        return match before.strip_suffix("->").and_then(|rest| take_list(rest.trim_end())) {
            Some((name, params)) => Some(Parts { name, params, results: Some(Results::List(last)) }),
            None => Some(Parts { name: before, params: last, results: None }),
        };
    }
    let (before, results) = text.rsplit_once("->")?;
    let (name, params) = take_list(before.trim_end())?;
    Some(Parts { name, params, results: Some(Results::One(results)) })
}

/// `before (inner)` as `before` and `inner`.
fn take_list(text: &str) -> Option<(&str, &str)> {
    let (before, inner) = text.strip_suffix(')')?.rsplit_once('(')?;
    (!inner.contains(')')).then_some((before.trim_end(), inner))
}

impl Parts<'_> {
    fn judge(self, text: &str) -> Result<Entry, EntryError> {
        match self.signature() {
            Ok(_) if self.name.is_empty() => Err(form(text)),
            Ok(signature) => Ok(Entry { name: self.name.to_owned(), signature: Some(signature) }),
            Err(error) if self.results.is_some() || tries_to_be_a_signature(text) => {
                Err(error.in_entry(text))
            }
            Err(_) => Ok(Entry { name: text.to_owned(), signature: None }),
        }
    }

    fn signature(&self) -> Result<Signature, ListError> {
        let results = match self.results {
            None => None,
            Some(Results::List(list)) => Some(types(list)?),
            Some(Results::One(word)) => Some(vec![one_type(word)?]),
        };
        Ok(Signature { params: types(self.params)?, results })
    }
}

enum ListError {
    Type(TypeError),
    TooMany,
}

impl ListError {
    fn in_entry(self, text: &str) -> EntryError {
        let entry = clip(text).to_string();
        match self {
            Self::Type(error) => EntryError::Type { entry, error },
            Self::TooMany => EntryError::TooManyTypes(entry),
        }
    }
}

fn types(list: &str) -> Result<Vec<ValType>, ListError> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    if list.split(',').count() > ARGS_MAX {
        return Err(ListError::TooMany);
    }
    list.split(',').map(one_type).collect()
}

fn one_type(word: &str) -> Result<ValType, ListError> {
    ValType::parse(word.trim()).map_err(ListError::Type)
}

/// Rule 3 of the module's header.
fn tries_to_be_a_signature(text: &str) -> bool {
    let arrow =
        text.split("->").skip(1).zip(text.split("->")).any(|(_, before)| before.trim_end().ends_with(')'));
    let words = text.rsplit_once('(').map(|(_, rest)| rest);
    arrow
        || words.is_some_and(|rest| {
            rest.trim().is_empty() || rest.split([',', ')', ' ', '-', '>']).any(looks_like_a_type)
        })
}

fn looks_like_a_type(word: &str) -> bool {
    let mut chars = word.chars();
    let lettered = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let digits = chars.as_str();
    word.ends_with("ref") || (lettered && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for Entry {
    /// The canonical text: no spaces, one result without parentheses, quotes only where they are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name_stands_unquoted() {
            f.write_str(&self.name)?;
        } else {
            let quoted = serde_json::to_string(&self.name).map_err(|_| fmt::Error)?;
            f.write_str(&quoted)?;
        }
        let Some(signature) = &self.signature else { return Ok(()) };
        write!(f, "({})", Listed(&signature.params))?;
        match signature.results.as_deref() {
            None => Ok(()),
            Some([one]) => write!(f, "->{one}"),
            Some(results) => write!(f, "->({})", Listed(results)),
        }
    }
}

impl Entry {
    /// Only clear cases: without parentheses, quotes and outer spaces rules 2 and 3 cannot apply to a bare name, and a
    /// name that ends in an arrow could be read as part of a signature behind it.
    fn name_stands_unquoted(&self) -> bool {
        let name = &self.name;
        !name.is_empty()
            && name.trim() == name
            && !name.ends_with("->")
            && !name.contains(|c: char| matches!(c, '(' | ')' | '"') || c.is_control())
    }
}

struct Listed<'a>(&'a [ValType]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, ty)| {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(ty.as_str())
        })
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
