//! What is being asked for, in the two forms that bytes can be verified against.
//!
//! A CIDv1 `raw` CID and a sha256 of the bytes are the same wish. CIDv0 and CIDv1 `dag-pb` with the same digest are
//! the same wish, too. So requests in different words meet in one cache entry and one fetch. Others are asked in the form
//! that the CID came in: a gateway, or a folder, may know it by that one alone.

use std::fmt;
use std::hash::{Hash, Hasher};

use cid::multihash::Multihash;
use cid::{Cid, Version};
use void_api::{CidText, Codec, Target, TargetError};

use crate::verify::Digest;

/// Multicodec codes, from the multiformats table.
const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const SHA2_256: u64 = 0x12;

/// How a `dag-pb` CID is written. No part of what it names: all are equal, and hash alike.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Form {
    /// `Qm…`
    V0,
    /// `bafybei…`
    #[default]
    V1,
}

impl PartialEq for Form {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Form {}

impl Hash for Form {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Something that bytes can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Want {
    /// The bytes have this sha256.
    Raw(Digest),
    /// The bytes are the UnixFS file whose root block has this sha256.
    Dag(Digest, Form),
}

impl Want {
    /// The digest of the bytes, or of the root block.
    pub(crate) fn digest(&self) -> &Digest {
        match self {
            Self::Raw(digest) | Self::Dag(digest, _) => digest,
        }
    }

    /// The canonical CIDv1, for its binary form.
    pub(crate) fn cid(&self) -> Option<Cid> {
        let codec = match self {
            Self::Raw(_) => RAW,
            Self::Dag(..) => DAG_PB,
        };
        // A 32-byte digest always fits; the Option is what keeps this free of panics.
        Some(Cid::new_v1(codec, Multihash::wrap(SHA2_256, self.digest()).ok()?))
    }

    /// Reads a CID in any of its text forms. The error says what is not accepted.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let cid: CidText = text.parse().map_err(|error: TargetError| error.to_string())?;
        Ok(Self::from(&cid))
    }
}

impl From<&CidText> for Want {
    fn from(cid: &CidText) -> Self {
        match cid.codec() {
            Codec::Raw => Self::Raw(*cid.digest()),
            Codec::DagPb => Self::Dag(*cid.digest(), if cid.is_v0() { Form::V0 } else { Form::V1 }),
        }
    }
}

/// A CID in binary, as blocks and archives hold it.
impl TryFrom<&Cid> for Want {
    type Error = String;

    fn try_from(cid: &Cid) -> Result<Self, String> {
        let digest = Digest::try_from(cid.hash().digest());
        match (cid.codec(), cid.hash().code(), digest) {
            (RAW, SHA2_256, Ok(digest)) => Ok(Self::Raw(digest)),
            (DAG_PB, SHA2_256, Ok(digest)) => {
                let form = if cid.version() == Version::V0 { Form::V0 } else { Form::V1 };
                Ok(Self::Dag(digest, form))
            }
            // Never accepted, so the text form's refusal names what is wrong.
            _ => Self::parse(&cid.to_string()),
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(digest) => CidText::raw(*digest).fmt(f),
            Self::Dag(digest, Form::V0) => CidText::v0(*digest).fmt(f),
            Self::Dag(digest, Form::V1) => CidText::dag_pb(*digest).fmt(f),
        }
    }
}

/// What a request names. AST hashes are looked up in the manifests and become a [`Want`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Bytes(Want),
    Ast(Digest),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(want) => want.fmt(f),
            Self::Ast(digest) => write!(f, "AST hash sha256:{}", hex::encode(digest)),
        }
    }
}

impl From<&Target> for Ask {
    fn from(target: &Target) -> Self {
        match target {
            Target::Cid(cid) => Self::Bytes(Want::from(cid)),
            Target::Sha256(digest) => Self::Bytes(Want::Raw(*digest)),
            Target::AstHash(digest) => Self::Ast(*digest),
        }
    }
}

/// Reads `sha256:<64 hex>` or `<64 hex>`.
pub(crate) fn parse_digest(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let mut digest = Digest::default();
    hex::decode_to_slice(digits, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";

    #[test]
    fn the_known_answer() {
        let digest =
            parse_digest("sha256:2764d95d730dd669fa0ebdd86d6a9a385e4e123f44ee9ffd4d78fd928a172f73").unwrap();
        assert_eq!(Want::Raw(digest).to_string(), KNOWN);
        assert_eq!(Want::parse(KNOWN), Ok(Want::Raw(digest)));
    }

    #[test]
    fn v0_and_v1_of_one_digest_are_one_wish() {
        let v1 = Want::Dag([7; 32], Form::V1);
        let v0 = Cid::new_v0(Multihash::wrap(SHA2_256, &[7; 32]).unwrap()).unwrap();
        for text in [v0.to_string(), v1.to_string()] {
            let want = Want::parse(&text).unwrap();
            assert_eq!(want, v1);
            assert_eq!(std::collections::HashSet::from([want, v1]).len(), 1);
            assert_eq!(want.to_string(), text, "in the form that it came in");
        }
        assert_eq!(Want::try_from(&v0).unwrap().to_string(), v0.to_string());
        assert!(Want::parse(&v0.to_string().to_lowercase()).is_err());
    }

    #[test]
    fn others_are_refused_by_name() {
        let refusal = |codec, code, digest: &[u8]| {
            let cid = Cid::new_v1(codec, Multihash::wrap(code, digest).unwrap());
            Want::parse(&cid.to_string()).unwrap_err()
        };
        assert!(refusal(0x71, SHA2_256, &[1; 32]).contains("dag-cbor"));
        assert!(refusal(RAW, 0x00, &[1; 5]).contains("identity"));
        assert!(refusal(RAW, 0x1e, &[1; 32]).contains("blake3"));
        assert!(!refusal(RAW, SHA2_256, &[1; 20]).is_empty());
        assert!(Want::parse(&KNOWN.replace("bafk", "xafk")).is_err());
        assert!(Want::parse("").is_err());
    }
}
