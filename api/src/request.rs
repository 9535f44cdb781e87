//! The body of `POST /v1/exec`, read and judged as far as that is possible without the module.
//!
//! What breaks the form is a 400 (not JSON; a field unknown, repeated, missing or of the wrong type, null included); what
//! has the form and cannot be run is a 422 (a CID, a signature, arguments against a declared signature, a bound).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::json::{self, JsonError};
use crate::limits::{
    ARGS_MAX, ARGV_ENV_MAX_BYTES, ARGV_MAX, BODY_MAX_BYTES, ENV_MAX, IDEMPOTENCY_KEY_MAX_CHARS,
    LABEL_KEY_MAX_BYTES, LABEL_VALUE_MAX_BYTES, LABELS_MAX,
};
use crate::{Entry, EntryError, Problem, ProblemCode, Signature, Target, ValType, Value, ValueError, clip};

/// One request to run a module. Printed as JSON it reads back as the same request.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields, transform = crate::schema::without_entry))]
pub struct ExecRequest {
    /// The module.
    pub target: Target,
    /// The export to call.
    pub entry: Entry,
    /// JSON numbers and strings, not typed yet: see [`ExecRequest::typed_args`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(
        with = "Vec<crate::schema::Argument>", length(max = ARGS_MAX), description = "One value for each parameter."
    ))]
    pub args: Vec<Box<RawValue>>,
    /// The caller's own words about the run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend(
        "maxProperties" = LABELS_MAX,
        "propertyNames" = { "minLength": 1, "maxLength": LABEL_KEY_MAX_BYTES },
        "additionalProperties" = { "type": "string", "maxLength": LABEL_VALUE_MAX_BYTES },
    )))]
    pub labels: BTreeMap<String, String>,
    /// From the body; the header may give it instead: see [`one_idempotency_key`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(
        with = "String", length(min = 1, max = IDEMPOTENCY_KEY_MAX_CHARS),
        description = "The same key and request give the same run, for 24 hours. The header Idempotency-Key may give it instead.",
    ))]
    pub idempotency_key: Option<String>,
    /// What a WASI guest reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub stdin: Option<String>,
    /// A WASI guest's arguments, the program's name first if it wants one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = ARGV_MAX)))]
    pub argv: Vec<String>,
    /// A WASI guest's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend(
        "maxProperties" = ENV_MAX, "propertyNames" = { "pattern": "^[^=\\u0000]+$" },
    )))]
    pub env: BTreeMap<String, String>,
}

/// The arguments do not fit a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Too few or too many.
    #[error("entry {entry} takes {expected} {}, args has {given}: give one for each parameter", arguments(*.expected))]
    Count {
        /// The export with its types, shortened.
        entry: String,
        /// In the request.
        given: usize,
        /// In the type.
        expected: usize,
    },
    /// One that is not of its type.
    #[error("args[{index}] of entry {entry}: {error}")]
    Value {
        /// The export with its types, shortened.
        entry: String,
        /// Which one, from 0.
        index: usize,
        /// Why not.
        error: ValueError,
    },
}

const fn arguments(count: usize) -> &'static str {
    if count == 1 { "argument" } else { "arguments" }
}

impl From<ArgsError> for Problem {
    fn from(error: ArgsError) -> Self {
        Self::new(ProblemCode::InvalidArgs, error.to_string())
    }
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        Self::new(ProblemCode::InvalidEntry, error.to_string())
    }
}

const FIELDS: &str = "target, entry, args, labels, idempotency_key, stdin, argv, env";

impl ExecRequest {
    /// Reads and judges a body.
    ///
    /// # Errors
    /// A [`Problem`] with status 413, 400 or 422 whose sentence names the field.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        if body.len() > BODY_MAX_BYTES {
            let detail = format!("the body is larger than {BODY_MAX_BYTES} bytes; send less");
            return Err(Problem::new(ProblemCode::PayloadTooLarge, detail));
        }
        let fields = json::body(body)?;
        // The form of all fields comes before the sense of any, so that a 400 is never hidden by a 422.
        if let Some((key, _)) = fields.iter().find(|(key, _)| !FIELDS.split(", ").any(|known| known == key)) {
            return Err(JsonError::unknown("", key, FIELDS).into());
        }
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
        let entry = field("entry").map(|raw| json::string("entry", raw)).transpose()?;
        let args = field("args").map(|raw| json::array("args", raw)).transpose()?.unwrap_or_default();
        let labels =
            field("labels").map(|raw| json::string_map("labels", raw)).transpose()?.unwrap_or_default();
        let key = field("idempotency_key").map(|raw| json::string("idempotency_key", raw)).transpose()?;
        let stdin = field("stdin").map(|raw| json::string("stdin", raw)).transpose()?;
        let argv = field("argv").map(|raw| json::strings("argv", raw)).transpose()?.unwrap_or_default();
        let env = field("env").map(|raw| json::string_map("env", raw)).transpose()?.unwrap_or_default();
        let target = field("target").ok_or(JsonError::Missing { path: "target" })?;

        let request = Self {
            target: Target::from_json(target)?,
            entry: entry.map_or_else(|| Ok(Entry::default()), |text| text.parse())?,
            args: check_args(&args)?,
            labels: check_labels(labels)?,
            idempotency_key: key
                .map(|key| check_key("idempotency_key", key, ProblemCode::InvalidValue))
                .transpose()?,
            stdin,
            argv: check_argv(argv)?,
            env: check_env(env)?,
        };
        check_argv_and_env(&request.argv, &request.env)?;
        if let Some(signature) = &request.entry.signature {
            request.typed_args(&signature.params, signature.results.as_deref())?;
        }
        Ok(request)
    }

    /// The arguments as values of the types of the entry's parameters. The results, as far as they are known, are for
    /// the sentence of a refusal.
    ///
    /// # Errors
    /// Their number or one of them does not fit.
    pub fn typed_args(
        &self,
        params: &[ValType],
        results: Option<&[ValType]>,
    ) -> Result<Vec<Value>, ArgsError> {
        let entry = || {
            let signature = Signature { params: params.to_vec(), results: results.map(<[_]>::to_vec) };
            let typed = Entry { name: self.entry.name.clone(), signature: Some(signature) };
            clip(&typed.to_string()).to_string()
        };
        if self.args.len() != params.len() {
            return Err(ArgsError::Count { entry: entry(), given: self.args.len(), expected: params.len() });
        }
        let typed = self.args.iter().zip(params).enumerate();
        typed
            .map(|(index, (arg, ty))| {
                Value::from_json(*ty, arg).map_err(|error| ArgsError::Value { entry: entry(), index, error })
            })
            .collect()
    }

    /// A digest of all that makes the request what it is, without its idempotency key: two requests with one key are
    /// the same request if their fingerprints are equal. Stable across versions: the store keeps it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut put = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        let kind = match self.target {
            Target::Cid(_) => "cid",
            Target::AstHash(_) => "ast_hash",
            Target::Sha256(_) => "sha256",
        };
        put("void-wasm request 1");
        put(kind);
        put(&self.target.to_string());
        put(&self.entry.to_string());
        put(&self.args.len().to_string());
        self.args.iter().for_each(|arg| put(arg.get()));
        for map in [&self.labels, &self.env] {
            put(&map.len().to_string());
            map.iter().for_each(|(key, value)| {
                put(key);
                put(value);
            });
        }
        put(&self.argv.len().to_string());
        self.argv.iter().for_each(|arg| put(arg));
        put(if self.stdin.is_some() { "stdin" } else { "" });
        put(self.stdin.as_deref().unwrap_or_default());
        hash.finalize().into()
    }

    /// The request as a body that [`ExecRequest::parse`] reads.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings under fixed or string keys, written to memory: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The one idempotency key of a request, from the `Idempotency-Key` header or the body's field.
///
/// # Errors
/// 400 where both are given and differ, or the header's is empty, too long or has control characters.
pub fn one_idempotency_key(header: Option<&str>, body: Option<String>) -> Result<Option<String>, Problem> {
    let header = header
        .map(|key| check_key("the Idempotency-Key header", key.to_owned(), ProblemCode::InvalidHeader))
        .transpose()?;
    match (header, body) {
        (Some(header), Some(body)) if header != body => Err(Problem::new(
            ProblemCode::IdempotencyConflict,
            "the Idempotency-Key header and the field idempotency_key differ; give one of them",
        )),
        (header, body) => Ok(header.or(body)),
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(ProblemCode::InvalidValue, detail)
}

fn check_key(place: &str, key: String, code: ProblemCode) -> Result<String, Problem> {
    let chars = key.chars().count();
    if chars == 0 || chars > IDEMPOTENCY_KEY_MAX_CHARS || key.chars().any(char::is_control) {
        let detail = format!(
            "{place} must have 1 to {IDEMPOTENCY_KEY_MAX_CHARS} characters, none of them a control character"
        );
        return Err(Problem::new(code, detail));
    }
    Ok(key)
}

fn check_args(args: &[&RawValue]) -> Result<Vec<Box<RawValue>>, Problem> {
    let refuse = |detail| Err(Problem::new(ProblemCode::InvalidArgs, detail));
    if args.len() > ARGS_MAX {
        return refuse(format!("args has {} items; give at most {ARGS_MAX}", args.len()));
    }
    // No type takes anything but these two, so deep or large values end here.
    if let Some((i, arg)) =
        args.iter().enumerate().find(|(_, arg)| !matches!(json::kind(arg), "a number" | "a string"))
    {
        return refuse(format!("args[{i}] is {}; give a number or a string", json::kind(arg)));
    }
    Ok(args.iter().map(|arg| (*arg).to_owned()).collect())
}

fn check_labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if labels.len() > LABELS_MAX {
        return Err(invalid(format!("labels has {} entries; give at most {LABELS_MAX}", labels.len())));
    }
    for (key, value) in &labels {
        if key.is_empty() || key.len() > LABEL_KEY_MAX_BYTES {
            let detail =
                format!("labels has the key \"{}\"; a key has 1 to {LABEL_KEY_MAX_BYTES} bytes", clip(key));
            return Err(invalid(detail));
        }
        if value.len() > LABEL_VALUE_MAX_BYTES {
            let detail = format!(
                "labels.{} has {} bytes; give at most {LABEL_VALUE_MAX_BYTES}",
                clip(key),
                value.len()
            );
            return Err(invalid(detail));
        }
    }
    Ok(labels)
}

fn check_argv(argv: Vec<String>) -> Result<Vec<String>, Problem> {
    if argv.len() > ARGV_MAX {
        return Err(invalid(format!("argv has {} items; give at most {ARGV_MAX}", argv.len())));
    }
    match argv.iter().position(|arg| arg.contains('\0')) {
        Some(i) => {
            Err(invalid(format!("argv[{i}] holds a NUL character, which WASI cannot pass; remove it")))
        }
        None => Ok(argv),
    }
}

fn check_env(env: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if env.len() > ENV_MAX {
        return Err(invalid(format!("env has {} entries; give at most {ENV_MAX}", env.len())));
    }
    let bad = |(key, value): &(&String, &String)| {
        key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')
    };
    match env.iter().find(bad) {
        Some((key, _)) => {
            let detail = format!(
                "env.{}: a name is not empty and has no \"=\", and neither part has a NUL",
                clip(key)
            );
            Err(invalid(detail))
        }
        None => Ok(env),
    }
}

fn check_argv_and_env(argv: &[String], env: &BTreeMap<String, String>) -> Result<(), Problem> {
    let argv: usize = argv.iter().map(|arg| arg.len() + 1).sum();
    let env: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if argv + env > ARGV_ENV_MAX_BYTES {
        let detail = format!(
            "argv and env have {} bytes together; give at most {ARGV_ENV_MAX_BYTES}, and the rest as stdin",
            argv + env
        );
        return Err(invalid(detail));
    }
    Ok(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
