//! Refusals as RFC 9457 problem details. One closed set of codes, each with its HTTP status and title; the sentence is
//! written where the refusal happens. No code for the end of a run: that is [`crate::Reason`].

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RunId;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

crate::words::words! {
    /// Why a request was refused.
    ProblemCode {
        /// The body is larger than allowed.
        PayloadTooLarge = "payload_too_large",
        /// The body is not JSON, or not an object.
        MalformedJson = "malformed_json",
        /// A field that this API does not have.
        UnknownField = "unknown_field",
        /// A field that stands twice.
        DuplicateField = "duplicate_field",
        /// A field of the wrong type.
        InvalidField = "invalid_field",
        /// A field that must be there.
        MissingField = "missing_field",
        /// A field of the right type whose value breaks a bound.
        InvalidValue = "invalid_value",
        /// No token, or one that is not known.
        Unauthorized = "unauthorized",
        /// The master switch is off.
        Disabled = "disabled",
        /// Header and body give different idempotency keys.
        IdempotencyConflict = "idempotency_conflict",
        /// The key was used for another request.
        IdempotencyMismatch = "idempotency_mismatch",
        /// The target names no module that could exist.
        InvalidTarget = "invalid_target",
        /// The entry's signature is not one.
        InvalidEntry = "invalid_entry",
        /// The arguments do not fit the declared signature.
        InvalidArgs = "invalid_args",
        /// A query parameter.
        InvalidQuery = "invalid_query",
        /// A header.
        InvalidHeader = "invalid_header",
        /// Too many runs wait.
        QueueFull = "queue_full",
        /// No such run, or another tenant's.
        RunNotFound = "run_not_found",
        /// No such module.
        ModuleNotFound = "module_not_found",
        /// The run has ended.
        AlreadyEnded = "already_ended",
        /// The uploaded module is larger than allowed.
        ModuleTooLarge = "module_too_large",
        /// The bytes are no module.
        ModuleInvalid = "module_invalid",
        /// Bytes were found, and they are not the ones that the CID names.
        ModuleUnverified = "module_unverified",
        /// The path exists, the method does not.
        MethodNotAllowed = "method_not_allowed",
        /// No such path.
        NotFound = "not_found",
        /// The service is stopping.
        Draining = "draining",
        /// Something that the service needs is not there now.
        Unavailable = "unavailable",
        /// The body's media type is not accepted.
        UnsupportedMediaType = "unsupported_media_type",
        /// The request did not arrive in time.
        Timeout = "timeout",
        /// A fault of the service.
        Internal = "internal",
    }
}

impl ProblemCode {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::MalformedJson
            | Self::UnknownField
            | Self::DuplicateField
            | Self::InvalidField
            | Self::MissingField
            | Self::IdempotencyConflict
            | Self::InvalidQuery
            | Self::InvalidHeader => 400,
            Self::Unauthorized => 401,
            Self::RunNotFound | Self::ModuleNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::AlreadyEnded => 409,
            Self::PayloadTooLarge | Self::ModuleTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidValue
            | Self::IdempotencyMismatch
            | Self::InvalidTarget
            | Self::InvalidEntry
            | Self::InvalidArgs
            | Self::ModuleInvalid
            | Self::ModuleUnverified => 422,
            Self::QueueFull => 429,
            Self::Internal => 500,
            Self::Disabled | Self::Draining | Self::Unavailable => 503,
        }
    }

    /// The same few words for every problem of this code.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PayloadTooLarge => "The body is too large",
            Self::MalformedJson => "The body is not a JSON object",
            Self::UnknownField => "A field is unknown",
            Self::DuplicateField => "A field stands twice",
            Self::InvalidField => "A field has the wrong type",
            Self::MissingField => "A field is missing",
            Self::InvalidValue => "A value is out of bounds",
            Self::Unauthorized => "The token is missing or unknown",
            Self::Disabled => "Execution is disabled",
            Self::IdempotencyConflict => "Two idempotency keys were given",
            Self::IdempotencyMismatch => "The idempotency key belongs to another request",
            Self::InvalidTarget => "The target is invalid",
            Self::InvalidEntry => "The entry is invalid",
            Self::InvalidArgs => "The arguments are invalid",
            Self::InvalidQuery => "A query parameter is invalid",
            Self::InvalidHeader => "A header is invalid",
            Self::QueueFull => "The queue is full",
            Self::RunNotFound => "There is no such run",
            Self::ModuleNotFound => "There is no such module",
            Self::AlreadyEnded => "The run has ended",
            Self::ModuleTooLarge => "The module is too large",
            Self::ModuleInvalid => "The module is invalid",
            Self::ModuleUnverified => "The module was not verified",
            Self::MethodNotAllowed => "The method is not allowed",
            Self::NotFound => "There is nothing here",
            Self::Draining => "The service is stopping",
            Self::Unavailable => "The service cannot do this now",
            Self::UnsupportedMediaType => "The media type is not supported",
            Self::Timeout => "The request took too long",
            Self::Internal => "The service failed",
        }
    }

    /// `Retry-After` in seconds, where trying again can help.
    #[must_use]
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::QueueFull | Self::Unavailable => Some(1),
            Self::Draining => Some(5),
            Self::Disabled => Some(60),
            _ => None,
        }
    }
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status; the code's, unless set otherwise.
    pub status: u16,
    /// Stable name of what is wrong.
    pub code: ProblemCode,
    /// One sentence that says what to do.
    pub detail: String,
    /// The run that it is about.
    pub run_id: Option<RunId>,
    /// `Retry-After` in seconds; the code's, unless something better is known.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem with its code's status. `detail` must not hold unbounded input: see [`crate::clip`].
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            detail: detail.into(),
            run_id: None,
            retry_after: code.retry_after(),
        }
    }

    /// The same, about a run.
    #[must_use]
    pub const fn about(mut self, run_id: RunId) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// The same, with the time after which trying again is worth it, in seconds.
    #[must_use]
    pub const fn again_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers under fixed keys: writing them to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:void-wasm:problem:{}", self.code))?;
        map.serialize_entry("title", self.code.title())?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("detail", &self.detail)?;
        map.serialize_entry("error", &self.detail)?;
        if let Some(run_id) = self.run_id {
            map.serialize_entry("run_id", &run_id)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Problem {
    /// For clients: a code that this version does not know reads as [`ProblemCode::Internal`].
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            status: u16,
            code: String,
            detail: String,
            #[serde(default)]
            run_id: Option<RunId>,
        }
        let Wire { status, code, detail, run_id } = Wire::deserialize(d)?;
        let code: ProblemCode = code.parse().unwrap_or(ProblemCode::Internal);
        // What the header says is the client's to read.
        Ok(Self { status, code, detail, run_id, retry_after: code.retry_after() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_as_problem_details() {
        let problem = Problem::new(ProblemCode::QueueFull, "try again in a second").about(RunId::new(0, 0));
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:void-wasm:problem:queue_full",
                "title": "The queue is full",
                "status": 429,
                "code": "queue_full",
                "detail": "try again in a second",
                "error": "try again in a second",
                "run_id": "wasm_00000000000000000000000000",
            })
        );
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn every_code_has_its_own_word_and_an_error_status() {
        for code in ProblemCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.title().is_empty());
        }
    }
}
