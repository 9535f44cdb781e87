//! What a run is of: a CID, a digest, or a file that is uploaded first.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use void_api::ModuleInfo;

use crate::client::{Answer, Call, Client};
use crate::failure::Failure;
use crate::progress::Progress;

/// The largest file that is read into memory; what a service takes is less, and it says so.
const FILE_MAX_BYTES: u64 = 1 << 30;
/// How long an upload may take, reading the module included.
const UPLOAD: Duration = Duration::from_secs(300);

/// What the word TARGET stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A CID, for the service to judge.
    Cid(String),
    /// `sha256:…`: an AST hash or the bytes' digest.
    Digest(String),
    /// A file on this machine.
    File(PathBuf),
}

/// A target as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sent {
    /// By CID.
    Cid(String),
    /// By AST hash.
    AstHash(String),
    /// By the bytes' digest.
    Sha256(String),
}

impl Target {
    /// Reads the word: `sha256:` is a digest, a slash or the ending .wasm makes a file, all else is a CID.
    pub(crate) fn parse(word: &OsStr) -> Result<Self, Failure> {
        let path = Path::new(word);
        let is_file = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wasm"));
        let Some(text) = word.to_str() else {
            return if is_file {
                Ok(Self::File(path.to_owned()))
            } else {
                Err(refuse(&word.to_string_lossy()))
            };
        };
        if let Some(digits) = text.strip_prefix("sha256:") {
            return match digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                true => Ok(Self::Digest(text.to_ascii_lowercase())),
                false => Err(Failure::Usage(format!(
                    "{}: sha256: is followed by 64 hex digits",
                    void_api::clip(text)
                ))),
            };
        }
        if is_file || text.contains('/') {
            return Ok(Self::File(path.to_owned()));
        }
        if !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
            return Ok(Self::Cid(text.to_owned()));
        }
        Err(refuse(text))
    }

    /// The target for the request; a file is uploaded for it.
    pub(crate) async fn send(&self, client: &mut Client) -> Result<Sent, Failure> {
        match self {
            Self::Cid(cid) => Ok(Sent::Cid(cid.clone())),
            Self::Digest(digest) => Ok(Sent::AstHash(digest.clone())),
            Self::File(path) => Ok(Sent::Cid(upload(client, path).await?.read::<ModuleInfo>()?.cid)),
        }
    }

    /// A WASI command's own name, which its argv begins with.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cid(text) | Self::Digest(text) => text.clone(),
            Self::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

fn refuse(word: &str) -> Failure {
    Failure::Usage(format!(
        "{}: neither a CID nor sha256:DIGEST nor a path to a .wasm file",
        void_api::clip(word)
    ))
}

/// Uploads a file; the answer describes the module.
pub(crate) async fn upload(client: &mut Client, path: &Path) -> Result<Answer, Failure> {
    let bytes = read(path)?;
    let progress = Progress::start();
    progress.say(format!("uploading {} ({} KiB)", path.display(), bytes.len().div_ceil(1024)));
    let body = Some(("application/wasm", Bytes::from(bytes)));
    client.call(Call { patience: UPLOAD, ..Call::with_body(Method::PUT, "/v1/modules", body) }).await
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::file(path, "read", &error);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(Failure::Usage(format!(
            "{}: larger than any module that a service takes",
            path.display()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::PathBuf;

    use super::{Sent, Target};

    fn parse(word: &str) -> Result<Target, String> {
        Target::parse(OsStr::new(word)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_word_is_a_cid_a_digest_or_a_file() {
        assert_eq!(parse("bafkreiabc").unwrap(), Target::Cid("bafkreiabc".into()));
        assert_eq!(parse("add.wasm").unwrap(), Target::File(PathBuf::from("add.wasm")));
        assert_eq!(parse("./add").unwrap(), Target::File(PathBuf::from("./add")));
        let digest = format!("sha256:{}", "aB".repeat(32));
        assert_eq!(parse(&digest).unwrap(), Target::Digest(digest.to_lowercase()));
        for word in ["", "sha256:12", "a b", "add.wat", "sha256:"] {
            assert!(parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn targets_are_sent_under_the_names_of_the_api() {
        let json = |sent: &Sent| serde_json::to_string(sent).unwrap();
        assert_eq!(json(&Sent::Cid("b".into())), r#"{"cid":"b"}"#);
        assert_eq!(json(&Sent::AstHash("sha256:0".into())), r#"{"ast_hash":"sha256:0"}"#);
        assert_eq!(json(&Sent::Sha256("sha256:0".into())), r#"{"sha256":"sha256:0"}"#);
    }
}
