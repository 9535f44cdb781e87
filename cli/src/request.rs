//! The body of `POST /v1/exec`, from the command line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use void_api::limits::BODY_MAX_BYTES;

use crate::arguments::ExecArguments;
use crate::failure::Failure;
use crate::target::{Sent, Target};

/// What is sent; what the command line leaves open is left out.
#[derive(Clone, Serialize)]
pub(crate) struct Body {
    target: Sent,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    argv: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
}

impl Body {
    /// Reads what the command line names (labels, standard input) and puts the request together.
    pub(crate) fn new(
        arguments: &ExecArguments,
        call: Vec<Box<RawValue>>,
        target: &Target,
        sent: Sent,
    ) -> Result<Self, Failure> {
        let mut argv = arguments.argv.clone();
        if !argv.is_empty() {
            argv.insert(0, target.name());
        }
        Ok(Self {
            target: sent,
            entry: arguments.entry.clone(),
            args: call,
            labels: labels(arguments)?,
            idempotency_key: arguments.idempotency_key.clone(),
            stdin: arguments.stdin.as_deref().map(stdin).transpose()?,
            argv,
            env: arguments.env.iter().cloned().collect(),
        })
    }

    /// The same request, of this target.
    pub(crate) fn of(self, target: Sent) -> Self {
        Self { target, ..self }
    }

    /// The same request for bytes with this digest, instead of a source with this AST hash. A key names one request, so
    /// that this one has a key of its own, the same at every repetition.
    pub(crate) fn by_bytes(&self) -> Option<Self> {
        let Sent::AstHash(digest) = &self.target else { return None };
        let idempotency_key = self.idempotency_key.as_ref().map(|key| format!("{key}#bytes"));
        Some(Self { target: Sent::Sha256(digest.clone()), idempotency_key, ..self.clone() })
    }

    /// Whether it can be sent again safely.
    pub(crate) fn has_key(&self) -> bool {
        self.idempotency_key.is_some()
    }

    /// The JSON text, if a service takes one so long.
    pub(crate) fn to_json(&self) -> Result<Bytes, Failure> {
        let json =
            serde_json::to_vec(self).map_err(|error| Failure::Local(format!("the request: {error}")))?;
        if json.len() > BODY_MAX_BYTES {
            return Err(Failure::Usage(format!(
                "the request has {} bytes of JSON, of which at most {BODY_MAX_BYTES} are taken: shorten --stdin, --env or --arg",
                json.len()
            )));
        }
        Ok(json.into())
    }
}

fn labels(arguments: &ExecArguments) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels: BTreeMap<String, String> = match &arguments.labels {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_str(json).map_err(|error| {
            Failure::Usage(format!(
                "--labels: not a JSON object of strings, such as {{\"env\":\"test\"}} ({error})"
            ))
        })?,
    };
    labels.extend(arguments.label.iter().cloned());
    Ok(labels)
}

/// Reads standard input up to what a request can hold, and no further: it may have no end.
fn stdin(path: &Path) -> Result<String, Failure> {
    let bytes =
        if path == Path::new("-") { bounded(io::stdin().lock()) } else { File::open(path).and_then(bounded) };
    let bytes = bytes.map_err(|error| Failure::file(path, "read for --stdin", &error))?;
    if bytes.len() > BODY_MAX_BYTES {
        return Err(Failure::Usage(format!(
            "--stdin {}: more than the {BODY_MAX_BYTES} bytes that a request can hold: give less",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        Failure::Usage(format!(
            "--stdin {}: byte {} is not UTF-8, which is all that a request can hold: encode it, as with base64",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(BODY_MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
