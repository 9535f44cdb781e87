//! Wasm values and their JSON forms. Nothing is coerced: a value that does not fit its type is refused.
//!
//! i32 is a number; i64 a string out, a number or a string in; f32 and f64 a number or `"NaN"`, `"Infinity"`,
//! `"-Infinity"`; v128 `"0x"` and 32 hex digits, the most significant first. The sign and payload of a NaN are not
//! shown; a NaN read is the canonical one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clip;

crate::words::words! {
    /// The types that an argument or a result may have.
    ValType {
        /// 32-bit integer, signed in JSON.
        I32 = "i32",
        /// 64-bit integer, signed in JSON.
        I64 = "i64",
        /// 32-bit float.
        F32 = "f32",
        /// 64-bit float.
        F64 = "f64",
        /// 128 bits.
        V128 = "v128",
    }
}

/// A word that is no type of an argument or a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// A reference type, which has no JSON form.
    #[error("{0} is a reference type, which cannot be passed; use i32, i64, f32, f64 or v128")]
    Reference(String),
    /// Anything else.
    #[error("\"{0}\" is not a type; use i32, i64, f32, f64 or v128")]
    Unknown(String),
}

impl ValType {
    /// Reads one type word, without spaces around it.
    ///
    /// # Errors
    /// A reference type, or no type at all.
    pub fn parse(word: &str) -> Result<Self, TypeError> {
        word.parse().map_err(|_| {
            let shown = clip(word).to_string();
            if word.ends_with("ref") || word.starts_with("ref ") {
                TypeError::Reference(shown)
            } else {
                TypeError::Unknown(shown)
            }
        })
    }
}

/// The type of an actual export or import, which may be one that no argument can have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeName {
    /// A type with a JSON form.
    Val(ValType),
    /// Another, as WebAssembly text writes it, such as `externref`.
    Other(Box<str>),
}

impl From<ValType> for TypeName {
    fn from(ty: ValType) -> Self {
        Self::Val(ty)
    }
}

impl From<&str> for TypeName {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Other(text.into()), Self::Val)
    }
}

impl TypeName {
    /// The type, if arguments can have it.
    #[must_use]
    pub const fn val(&self) -> Option<ValType> {
        match self {
            Self::Val(ty) => Some(*ty),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Val(ty) => f.write_str(ty.as_str()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Serialize for TypeName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Val(ty) => s.serialize_str(ty.as_str()),
            Self::Other(text) => s.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self::from(text.as_str()))
    }
}

/// One argument or result. Floats are kept as bits, so that values can be compared and every bit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    /// i32
    I32(i32),
    /// i64
    I64(i64),
    /// The bits of an f32.
    F32(u32),
    /// The bits of an f64.
    F64(u64),
    /// A v128 as it lies in wasm memory: the least significant byte first.
    V128([u8; 16]),
}

/// JSON that is no value of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} is not {expected}")]
pub struct ValueError {
    found: String,
    expected: &'static str,
}

impl Value {
    /// The value's type.
    #[must_use]
    pub const fn ty(&self) -> ValType {
        match self {
            Self::I32(_) => ValType::I32,
            Self::I64(_) => ValType::I64,
            Self::F32(_) => ValType::F32,
            Self::F64(_) => ValType::F64,
            Self::V128(_) => ValType::V128,
        }
    }

    /// Reads one JSON value as a `ty`. A decimal is rounded once, to the nearest of the type.
    ///
    /// # Errors
    /// Another JSON type, an integer out of range or with a fraction, a decimal that only infinity could hold.
    pub fn from_json(ty: ValType, json: &RawValue) -> Result<Self, ValueError> {
        let text = json.get().trim();
        match ty {
            ValType::I32 => integer(text).and_then(|n| n.parse().ok()).map(Self::I32),
            ValType::I64 => i64_from(text).map(Self::I64),
            ValType::F32 => f32_from(text).map(|x| Self::F32(x.to_bits())),
            ValType::F64 => f64_from(text).map(|x| Self::F64(x.to_bits())),
            ValType::V128 => v128_from(text).map(Self::V128),
        }
        .ok_or_else(|| ValueError { found: clip(text).to_string(), expected: expected(ty) })
    }
}

const fn expected(ty: ValType) -> &'static str {
    match ty {
        ValType::I32 => "an i32; give an integer from -2147483648 to 2147483647",
        ValType::I64 => {
            "an i64; give an integer from -9223372036854775808 to 9223372036854775807, or it as a string"
        }
        ValType::F32 => {
            "an f32; give a number of at most 3.4028235e38 or \"NaN\", \"Infinity\", \"-Infinity\""
        }
        ValType::F64 => {
            "an f64; give a number of at most 1.7976931348623157e308 or \"NaN\", \"Infinity\", \"-Infinity\""
        }
        ValType::V128 => "a v128; give \"0x\" and 32 hex digits, the most significant first",
    }
}

/// The text itself, if it is an integer as JSON writes them.
fn integer(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    (plain && !digits.is_empty() && (digits == "0" || !digits.starts_with('0'))).then_some(text)
}

/// Whether the JSON value is a number: JSON has made sure of the rest of its form.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn string(text: &str) -> Option<String> {
    if text.starts_with('"') { serde_json::from_str(text).ok() } else { None }
}

fn i64_from(text: &str) -> Option<i64> {
    match string(text) {
        Some(inner) => integer(&inner)?.parse().ok(),
        None => integer(text)?.parse().ok(),
    }
}

// f32 is read from the text, not through f64: rounding twice can miss the nearest value.
fn f32_from(text: &str) -> Option<f32> {
    if is_number(text) {
        return text.parse().ok().filter(|x: &f32| x.is_finite());
    }
    match string(text)?.as_str() {
        "NaN" => Some(f32::from_bits(0x7fc0_0000)),
        "Infinity" => Some(f32::INFINITY),
        "-Infinity" => Some(f32::NEG_INFINITY),
        _ => None,
    }
}

fn f64_from(text: &str) -> Option<f64> {
    if is_number(text) {
        return text.parse().ok().filter(|x: &f64| x.is_finite());
    }
    match string(text)?.as_str() {
        "NaN" => Some(f64::from_bits(0x7ff8_0000_0000_0000)),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn v128_from(text: &str) -> Option<[u8; 16]> {
    let inner = string(text)?;
    let mut bytes = [0; 16];
    hex::decode_to_slice(inner.strip_prefix("0x")?, &mut bytes).ok()?;
    bytes.reverse();
    Some(bytes)
}

fn word_for(x: f64) -> Option<&'static str> {
    if x.is_nan() {
        Some("NaN")
    } else if x.is_infinite() {
        Some(if x > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::I32(n) => s.serialize_i32(n),
            Self::I64(n) => s.collect_str(&n),
            Self::F32(bits) => {
                let x = f32::from_bits(bits);
                match word_for(x.into()) {
                    Some(word) => s.serialize_str(word),
                    None => s.serialize_f32(x),
                }
            }
            Self::F64(bits) => {
                let x = f64::from_bits(bits);
                match word_for(x) {
                    Some(word) => s.serialize_str(word),
                    None => s.serialize_f64(x),
                }
            }
            Self::V128(bytes) => s.collect_str(&format_args!("0x{:032x}", u128::from_le_bytes(bytes))),
        }
    }
}

/// A call's results as the record's `result`: none is `None`, shown as null; one stands alone; several are an array.
#[must_use]
pub fn results_json(results: &[Value]) -> Option<Box<RawValue>> {
    // Printing a value cannot fail: there is no map with odd keys in it, and no writer that could be full.
    match results {
        [] => None,
        [one] => serde_json::value::to_raw_value(one).ok(),
        several => serde_json::value::to_raw_value(several).ok(),
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
