//! Reading a JSON object field by field, so that each refusal names its field and keeps apart what breaks the form (400)
//! from what breaks a rule (422). Values stay raw text until their field is known, so nesting never recurses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{Problem, ProblemCode, clip};

/// What breaks the form of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("{path} is {found}; give {expected}")]
    Type { path: String, found: &'static str, expected: &'static str },
    #[error("{path} is not a field; {accepted} are")]
    Unknown { path: String, accepted: &'static str },
    #[error("{path} stands twice; give it once")]
    Duplicate { path: String },
    #[error("{path} is missing; it is required")]
    Missing { path: &'static str },
    #[error("the body is not a JSON object: {0}")]
    Malformed(String),
}

impl JsonError {
    pub(crate) fn unknown(parent: &str, key: &str, accepted: &'static str) -> Self {
        Self::Unknown { path: path(parent, key), accepted }
    }

    fn duplicate(parent: &str, key: &str) -> Self {
        Self::Duplicate { path: path(parent, key) }
    }

    fn wrong(path: &str, raw: &RawValue, expected: &'static str) -> Self {
        Self::Type { path: path.to_owned(), found: kind(raw), expected }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let code = match error {
            JsonError::Type { .. } => ProblemCode::InvalidField,
            JsonError::Unknown { .. } => ProblemCode::UnknownField,
            JsonError::Duplicate { .. } => ProblemCode::DuplicateField,
            JsonError::Missing { .. } => ProblemCode::MissingField,
            JsonError::Malformed(_) => ProblemCode::MalformedJson,
        };
        Self::new(code, error.to_string())
    }
}

/// `parent.key`, with what came from outside shortened.
pub(crate) fn path(parent: &str, key: &str) -> String {
    if parent.is_empty() { clip(key).to_string() } else { format!("{parent}.{}", clip(key)) }
}

/// The JSON type of a value, for a sentence.
pub(crate) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().trim_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The body's top level.
pub(crate) fn body(bytes: &[u8]) -> Result<Vec<(String, &RawValue)>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Malformed("it is not UTF-8".into()))?;
    fields("", text).map_err(|error| match error {
        FieldsError::Json(error) => JsonError::Malformed(clip(&error.to_string()).to_string()),
        FieldsError::Duplicate(error) => error,
    })
}

/// The fields of an object inside the body.
pub(crate) fn object<'a>(path: &str, raw: &'a RawValue) -> Result<Vec<(String, &'a RawValue)>, JsonError> {
    if kind(raw) != "an object" {
        return Err(JsonError::wrong(path, raw, "an object"));
    }
    fields(path, raw.get()).map_err(|error| match error {
        // The body was read to its end already: what can still fail is a key with half a surrogate pair.
        FieldsError::Json(_) => JsonError::wrong(path, raw, "an object whose keys are Unicode text"),
        FieldsError::Duplicate(error) => error,
    })
}

enum FieldsError {
    Json(serde_json::Error),
    Duplicate(JsonError),
}

fn fields<'a>(parent: &str, text: &'a str) -> Result<Vec<(String, &'a RawValue)>, FieldsError> {
    let Fields(fields) = serde_json::from_str(text).map_err(FieldsError::Json)?;
    let mut seen = BTreeSet::new();
    for (key, _) in &fields {
        if !seen.insert(key.as_str()) {
            return Err(FieldsError::Duplicate(JsonError::duplicate(parent, key)));
        }
    }
    Ok(fields)
}

/// An object in its written order, with repeated keys still in it.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        d.deserialize_map(Walk)
    }
}

pub(crate) fn string(path: &str, raw: &RawValue) -> Result<String, JsonError> {
    if kind(raw) != "a string" {
        return Err(JsonError::wrong(path, raw, "a string"));
    }
    serde_json::from_str(raw.get()).map_err(|_| JsonError::wrong(path, raw, "a string of Unicode text"))
}

/// The items of an array, raw.
pub(crate) fn array<'a>(path: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, JsonError> {
    if kind(raw) != "an array" {
        return Err(JsonError::wrong(path, raw, "an array"));
    }
    serde_json::from_str(raw.get()).map_err(|_| JsonError::wrong(path, raw, "an array"))
}

/// An array of strings.
pub(crate) fn strings(path: &str, raw: &RawValue) -> Result<Vec<String>, JsonError> {
    array(path, raw)?.into_iter().enumerate().map(|(i, item)| string(&format!("{path}[{i}]"), item)).collect()
}

/// An object of strings.
pub(crate) fn string_map(parent: &str, raw: &RawValue) -> Result<BTreeMap<String, String>, JsonError> {
    object(parent, raw)?
        .into_iter()
        .map(|(key, value)| {
            let value = string(&path(parent, &key), value)?;
            Ok((key, value))
        })
        .collect()
}
