//! Which module to run: a CID, an AST hash, or the digest of the bytes. Nothing is looked up here.

use std::fmt;
use std::str::FromStr;

use cid::multibase::Base;
use cid::{Cid, Version};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::json::{self, JsonError};
use crate::limits::CID_MAX_BYTES;
use crate::{Problem, ProblemCode, clip};

const SHA2_256: u64 = 0x12;
const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;

/// What the bytes behind a CID are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The module itself.
    Raw,
    /// A `UnixFS` tree that holds the module.
    DagPb,
}

/// A CID that this service can verify: raw or dag-pb, sha2-256.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CidText {
    text: Box<str>,
    codec: Codec,
    digest: [u8; 32],
}

impl CidText {
    /// The CID of a module's bytes: version 1, raw. `digest` is their sha2-256.
    #[must_use]
    pub fn raw(digest: [u8; 32]) -> Self {
        Self::v1(Codec::Raw, digest)
    }

    /// The CID of a dag-pb block: version 1.
    #[must_use]
    pub fn dag_pb(digest: [u8; 32]) -> Self {
        Self::v1(Codec::DagPb, digest)
    }

    /// The CID of a dag-pb block: version 0.
    #[must_use]
    pub fn v0(digest: [u8; 32]) -> Self {
        let mut bytes = vec![SHA2_256 as u8, 32];
        bytes.extend_from_slice(&digest);
        let text = Base::Base58Btc.encode(bytes).into_boxed_str();
        Self { text, codec: Codec::DagPb, digest }
    }

    fn v1(codec: Codec, digest: [u8; 32]) -> Self {
        let code = match codec {
            Codec::Raw => RAW,
            Codec::DagPb => DAG_PB,
        };
        // Version, codec, hash, its length: each below 128, and so one byte as a varint.
        let mut bytes = vec![1, code as u8, SHA2_256 as u8, 32];
        bytes.extend_from_slice(&digest);
        let text = cid::multibase::encode(Base::Base32Lower, bytes).into_boxed_str();
        Self { text, codec, digest }
    }

    /// The canonical text: base 32 for version 1, base 58 for version 0.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a version 0 CID.
    #[must_use]
    pub fn is_v0(&self) -> bool {
        self.text.starts_with("Qm")
    }

    /// What the bytes are.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The sha2-256 of the block that the CID names; for [`Codec::Raw`] that of the module.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Display for CidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for CidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for CidText {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let not_a_cid = || TargetError::NotACid(clip(text).to_string());
        // The library would also take a path or URL with "/ipfs/" in it. A CID is asked for, not where to find one.
        if text.len() > CID_MAX_BYTES || text.contains('/') {
            return Err(not_a_cid());
        }
        let cid = Cid::try_from(text).map_err(|_| not_a_cid())?;
        // It would pass over what stands behind, and over a base before version 0, which has none.
        let whole = match cid.version() {
            Version::V0 => cid.to_string() == text,
            Version::V1 => cid::multibase::decode(text).is_ok_and(|(_, bytes)| bytes == cid.to_bytes()),
        };
        if !whole {
            return Err(not_a_cid());
        }
        let codec = match cid.codec() {
            RAW => Codec::Raw,
            DAG_PB => Codec::DagPb,
            other => return Err(TargetError::Codec(codec_name(other))),
        };
        if cid.hash().code() != SHA2_256 {
            return Err(TargetError::Hash(hash_name(cid.hash().code())));
        }
        let digest = cid.hash().digest().try_into().map_err(|_| not_a_cid())?;
        match cid.version() {
            Version::V0 => Ok(Self::v0(digest)),
            Version::V1 => Ok(Self::v1(codec, digest)),
        }
    }
}

impl Serialize for CidText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for CidText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The names that the multicodec table gives.
fn codec_name(code: u64) -> String {
    match code {
        0x51 => "cbor".into(),
        0x71 => "dag-cbor".into(),
        0x72 => "libp2p-key".into(),
        0x78 => "git-raw".into(),
        0x0129 => "dag-json".into(),
        0x0200 => "json".into(),
        other => format!("{other:#x}"),
    }
}

fn hash_name(code: u64) -> String {
    match code {
        0x00 => "identity".into(),
        0x11 => "sha1".into(),
        0x13 => "sha2-512".into(),
        0x14 => "sha3-512".into(),
        0x15 => "sha3-384".into(),
        0x16 => "sha3-256".into(),
        0x17 => "sha3-224".into(),
        0x18 => "shake-128".into(),
        0x19 => "shake-256".into(),
        0x1a => "keccak-224".into(),
        0x1b => "keccak-256".into(),
        0x1c => "keccak-384".into(),
        0x1d => "keccak-512".into(),
        0x1e => "blake3".into(),
        0x20 => "sha2-384".into(),
        0x22 => "murmur3-x64-64".into(),
        0x23 => "murmur3-32".into(),
        0x56 => "dbl-sha2-256".into(),
        0xd4 => "md4".into(),
        0xd5 => "md5".into(),
        0x1012 => "sha2-256-trunc254-padded".into(),
        0x1013 => "sha2-224".into(),
        0x1014 => "sha2-512-224".into(),
        0x1015 => "sha2-512-256".into(),
        0x1022 => "murmur3-x64-128".into(),
        0x1053 => "ripemd-160".into(),
        // One code for each length in bytes, from 1 to 64 and from 1 to 32.
        0xb201..=0xb240 => format!("blake2b-{}", (code - 0xb200) * 8),
        0xb241..=0xb260 => format!("blake2s-{}", (code - 0xb240) * 8),
        other => format!("{other:#x}"),
    }
}

/// A module by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// By CID.
    Cid(CidText),
    /// By the hash of the source's syntax tree, as manifests list it.
    AstHash([u8; 32]),
    /// By the sha2-256 of the module's bytes.
    Sha256([u8; 32]),
}

/// The target names no module that could exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a CID at all.
    #[error("\"{0}\" is not a CID; give a version 1 CID such as bafkrei…, or a version 0 one such as Qm…")]
    NotACid(String),
    /// A CID of something that cannot be a module.
    #[error("the CID's codec is {0}; only raw and dag-pb can hold a module")]
    Codec(String),
    /// A CID that could not be verified.
    #[error("the CID's hash is {0}; only sha2-256 is accepted")]
    Hash(String),
    /// Not a digest.
    #[error("{field} is \"{found}\"; give {accepted}")]
    Digest {
        /// The field.
        field: &'static str,
        /// What it holds, shortened.
        found: String,
        /// What it may hold.
        accepted: &'static str,
    },
    /// None of the fields, or more than one.
    #[error("target must have exactly one of cid, ast_hash and sha256")]
    NotOne,
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        Self::new(ProblemCode::InvalidTarget, error.to_string())
    }
}

impl Target {
    /// Reads the JSON object. What breaks its form (another type, an unknown field) has a 400, what it names has a 422.
    pub(crate) fn from_json(raw: &RawValue) -> Result<Self, Problem> {
        let mut found = None;
        for (key, value) in json::object("target", raw)? {
            let one = match key.as_str() {
                "cid" => Self::Cid(json::string("target.cid", value)?.parse()?),
                "ast_hash" | "astHash" => Self::AstHash(ast_hash(&json::string("target.ast_hash", value)?)?),
                "sha256" => Self::Sha256(sha256(&json::string("target.sha256", value)?)?),
                unknown => {
                    return Err(JsonError::unknown("target", unknown, "cid, ast_hash, sha256").into());
                }
            };
            if found.replace(one).is_some() {
                return Err(TargetError::NotOne.into());
            }
        }
        found.ok_or_else(|| TargetError::NotOne.into())
    }
}

fn ast_hash(text: &str) -> Result<[u8; 32], TargetError> {
    text.strip_prefix("sha256:").and_then(digest).ok_or_else(|| TargetError::Digest {
        field: "target.ast_hash",
        found: clip(text).to_string(),
        accepted: "\"sha256:\" and 64 hex digits",
    })
}

fn sha256(text: &str) -> Result<[u8; 32], TargetError> {
    digest(text.strip_prefix("sha256:").unwrap_or(text)).ok_or_else(|| TargetError::Digest {
        field: "target.sha256",
        found: clip(text).to_string(),
        accepted: "64 hex digits, with or without \"sha256:\" before them",
    })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for Target {
    /// As a command line names it: the CID, or `sha256:` and the digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => cid.fmt(f),
            Self::AstHash(digest) | Self::Sha256(digest) => write!(f, "sha256:{}", hex::encode(digest)),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(1))?;
        match self {
            Self::Cid(cid) => map.serialize_entry("cid", cid)?,
            Self::AstHash(_) => map.serialize_entry("ast_hash", &format_args!("{self}"))?,
            Self::Sha256(digest) => map.serialize_entry("sha256", &hex::encode(digest))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        Self::from_json(&raw).map_err(|problem| de::Error::custom(problem.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN_SHA256: &str = "2764d95d730dd669fa0ebdd86d6a9a385e4e123f44ee9ffd4d78fd928a172f73";
    const KNOWN_CID: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";

    fn target(json: &str) -> Result<Target, Problem> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        Target::from_json(&raw)
    }

    #[test]
    fn known_answer() {
        let digest = super::digest(KNOWN_SHA256).unwrap();
        assert_eq!(CidText::raw(digest).as_str(), KNOWN_CID);
        let parsed: CidText = KNOWN_CID.parse().unwrap();
        assert_eq!((parsed.codec(), parsed.digest()), (Codec::Raw, &digest));
        assert_eq!(parsed, CidText::raw(digest));
    }

    #[test]
    fn other_bases_and_version_0_are_read() {
        let digest = super::digest(KNOWN_SHA256).unwrap();
        let bytes: Vec<u8> = [0x01, 0x55, 0x12, 0x20].into_iter().chain(digest).collect();
        for base in
            [Base::Base58Btc, Base::Base16Lower, Base::Base64Url, Base::Base32Upper, Base::Base36Lower]
        {
            let text = cid::multibase::encode(base, &bytes);
            if text.contains('/') {
                continue;
            }
            assert_eq!(text.parse::<CidText>().unwrap().as_str(), KNOWN_CID, "{text}");
        }
        let v0: CidText = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG".parse().unwrap();
        assert_eq!(v0.codec(), Codec::DagPb);
        assert_eq!(v0.as_str(), "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG");
        assert!(v0.is_v0());
        let v1 = CidText::dag_pb(*v0.digest());
        assert!(!v1.is_v0());
        assert_eq!(v1.as_str(), "bafybeie5nqv6kd3qnfjupgvz34woh3oksc3iau6abmyajn7qvtf6d2ho34");
    }

    #[test]
    fn what_cannot_be_verified_is_refused_by_name() {
        let cid = |codec: u8, hash: u8, len: usize| {
            let mut bytes = vec![1, codec, hash, len as u8];
            bytes.resize(4 + len, 7);
            cid::multibase::encode(Base::Base32Lower, bytes).parse::<CidText>()
        };
        assert_eq!(cid(0x71, 0x12, 32), Err(TargetError::Codec("dag-cbor".into())));
        assert_eq!(cid(0x72, 0x12, 32), Err(TargetError::Codec("libp2p-key".into())));
        assert_eq!(cid(0x55, 0x13, 64), Err(TargetError::Hash("sha2-512".into())));
        assert_eq!(cid(0x55, 0x00, 4), Err(TargetError::Hash("identity".into())));
        assert_eq!(cid(0x55, 0x20, 48), Err(TargetError::Hash("sha2-384".into())));
        assert_eq!(cid(0x55, 0x56, 32), Err(TargetError::Hash("dbl-sha2-256".into())));
        assert_eq!(cid(0x55, 0x22, 8), Err(TargetError::Hash("murmur3-x64-64".into())));
        // From the multicodec table.
        for (code, name) in [(0xb220, "blake2b-256"), (0xb240, "blake2b-512"), (0xb260, "blake2s-256")] {
            assert_eq!(hash_name(code), name);
        }
        assert!(matches!(cid(0x55, 0x12, 20), Err(TargetError::NotACid(_))));
        for bad in [
            "",
            "bafkrei...",
            "/ipfs/bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom",
            "Qm",
            "zz",
        ] {
            assert!(matches!(bad.parse::<CidText>(), Err(TargetError::NotACid(_))), "{bad}");
        }
        assert!("b".repeat(300).parse::<CidText>().is_err());
    }

    #[test]
    fn what_stands_behind_a_cid_or_before_one_of_version_0_is_no_part_of_one() {
        let mut bytes: Vec<u8> = [0x01, 0x55, 0x12, 0x20].into_iter().chain([7; 32]).collect();
        let encode = |base: Base, bytes: &[u8]| cid::multibase::encode(base, bytes);
        assert!(encode(Base::Base32Lower, &bytes).parse::<CidText>().is_ok());
        let long_codec: Vec<u8> = [0x01, 0xd5, 0x00].into_iter().chain(bytes[2..].iter().copied()).collect();
        assert!(encode(Base::Base32Lower, &long_codec).parse::<CidText>().is_err(), "0x55 in two bytes");
        bytes.push(0);
        for base in [Base::Base32Lower, Base::Base58Btc, Base::Base16Lower] {
            assert!(encode(base, &bytes).parse::<CidText>().is_err());
        }
        let v0 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";
        let digest = *v0.parse::<CidText>().unwrap().digest();
        let binary: Vec<u8> = [0x12, 0x20].into_iter().chain(digest).collect();
        for text in [format!("z{v0}"), encode(Base::Base32Lower, &binary), format!("{v0}1"), format!("{v0} ")]
        {
            assert!(text.parse::<CidText>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_object_has_exactly_one_known_string() {
        let hash = KNOWN_SHA256;
        assert!(matches!(target(&format!("{{\"cid\":\"{KNOWN_CID}\"}}")), Ok(Target::Cid(_))));
        for key in ["ast_hash", "astHash"] {
            let json = format!("{{\"{key}\":\"sha256:{}\"}}", hash.to_uppercase());
            assert!(matches!(target(&json), Ok(Target::AstHash(_))));
            assert_eq!(target(&format!("{{\"{key}\":\"{hash}\"}}")).unwrap_err().status, 422);
        }
        for prefix in ["", "sha256:"] {
            assert!(matches!(target(&format!("{{\"sha256\":\"{prefix}{hash}\"}}")), Ok(Target::Sha256(_))));
        }
        for (json, status, code) in [
            ("{}", 422, ProblemCode::InvalidTarget),
            ("{\"cid\":\"x\"}", 422, ProblemCode::InvalidTarget),
            ("{\"sha256\":\"sha256:00\"}", 422, ProblemCode::InvalidTarget),
            ("{\"cid\":5}", 400, ProblemCode::InvalidField),
            ("{\"cid\":null}", 400, ProblemCode::InvalidField),
            ("{\"url\":\"x\"}", 400, ProblemCode::UnknownField),
            ("\"bafk\"", 400, ProblemCode::InvalidField),
            ("[]", 400, ProblemCode::InvalidField),
        ] {
            let problem = target(json).unwrap_err();
            assert_eq!((problem.status, problem.code), (status, code), "{json}: {problem}");
        }
        let both = format!("{{\"cid\":\"{KNOWN_CID}\",\"sha256\":\"{hash}\"}}");
        assert_eq!(target(&both).unwrap_err().code, ProblemCode::InvalidTarget);
        let twice = format!("{{\"cid\":\"{KNOWN_CID}\",\"cid\":\"{KNOWN_CID}\"}}");
        assert_eq!(target(&twice).unwrap_err().code, ProblemCode::DuplicateField);
    }

    proptest! {
        #[test]
        fn targets_survive_json(digest: [u8; 32], which in 0..5) {
            let target = match which {
                0 => Target::Cid(CidText::raw(digest)),
                1 => Target::Cid(CidText::dag_pb(digest)),
                4 => Target::Cid(CidText::v0(digest)),
                2 => Target::AstHash(digest),
                _ => Target::Sha256(digest),
            };
            let json = serde_json::to_string(&target).unwrap();
            prop_assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "[bBzfuQm][a-z2-7A-Z1-9]{0,60}|.*") {
            let _ = text.parse::<CidText>();
        }
    }
}
