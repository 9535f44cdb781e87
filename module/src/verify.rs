//! The only place where bytes become trusted to be the ones asked for: hash, compare, and hand out a type that
//! has no other constructor.

use std::io::Read;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::answer::Miss;
use crate::buffer::Buffer;

/// A sha2-256 digest.
pub(crate) type Digest = [u8; 32];

/// Bytes read and hashed per step: small enough to be hashed while they are still in the CPU's cache.
const STEP: usize = 256 * 1024;

/// The digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// A whole module whose bytes were compared with the identifier that asked for them.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    bytes: Bytes,
    sha256: Digest,
}

impl Verified {
    /// Takes bytes that arrive by upload: they are named by their own digest, so there is nothing to compare.
    pub(crate) fn named_by_itself(bytes: Bytes) -> Self {
        let sha256 = sha256(&bytes);
        Self { bytes, sha256 }
    }

    /// Takes a file whose every byte was compared with a root block. For the DAG walk and its inverse alone.
    pub(crate) fn under_root(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = sha256(&bytes);
        Self { bytes, sha256 }
    }

    /// Reads `size` bytes and takes them if their digest is `want`, hashing each piece as it is read.
    ///
    /// Outer error: reading failed. Inner `None`: other bytes.
    pub(crate) fn read(from: &mut impl Read, size: usize, want: &Digest) -> std::io::Result<Option<Self>> {
        let mut buffer = Buffer::new(size);
        let sha256 = read_and_hash(from, buffer.as_mut())?;
        // A file that has grown since its size was read is not the file that was asked for.
        if from.read(&mut [0u8; 1])? != 0 {
            return Ok(None);
        }
        Ok((sha256 == *want).then(|| Self { bytes: buffer.share(), sha256 }))
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn sha256(&self) -> &Digest {
        &self.sha256
    }
}

/// Fills `buffer` and hashes it on the way.
fn read_and_hash(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    for piece in buffer.chunks_mut(STEP) {
        from.read_exact(piece)?;
        hasher.update(&*piece);
    }
    Ok(hasher.finalize().into())
}

/// One block of a DAG whose bytes were compared with the link that led to it.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    bytes: Bytes,
}

impl Block {
    /// Takes `bytes` if their digest is `want`.
    pub(crate) fn check(bytes: Bytes, want: &Digest) -> Option<Self> {
        (sha256(&bytes) == *want).then_some(Self { bytes })
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl From<Verified> for Block {
    fn from(verified: Verified) -> Self {
        Self { bytes: verified.bytes }
    }
}

/// Takes a body piece by piece, bounded, hashing as it grows.
pub(crate) struct Collector {
    bytes: Vec<u8>,
    hasher: Sha256,
    cap: u64,
}

impl Collector {
    /// `announced` is what the sender says will come; it is a hint, never believed beyond `cap`.
    pub(crate) fn new(cap: u64, announced: Option<u64>) -> Result<Self, Miss> {
        if announced.is_some_and(|n| n > cap) {
            return Err(too_large(cap));
        }
        let room = usize::try_from(announced.unwrap_or(0)).unwrap_or(0);
        Ok(Self { bytes: Vec::with_capacity(room), hasher: Sha256::new(), cap })
    }

    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Miss> {
        if self.bytes.len() as u64 + piece.len() as u64 > self.cap {
            return Err(too_large(self.cap));
        }
        self.hasher.update(piece);
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The whole body, if its digest is `want`.
    pub(crate) fn finish(self, want: &Digest) -> Option<Verified> {
        let sha256: Digest = self.hasher.finalize().into();
        (sha256 == *want).then(|| Verified { bytes: Bytes::from(self.bytes), sha256 })
    }
}

pub(crate) fn too_large(cap: u64) -> Miss {
    Miss::TooLarge(format!("offered more than the {cap} bytes allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_only_the_named_bytes() {
        let bytes: Vec<u8> = (0..9_300_000u32).map(|n| n as u8).collect();
        let want = sha256(&bytes);
        let read = |data: &[u8], size| Verified::read(&mut &*data, size, &want);
        assert_eq!(read(&bytes, bytes.len()).unwrap().unwrap().bytes(), &bytes);
        assert!(read(&bytes, bytes.len() + 1).is_err());
        assert!(read(&bytes, bytes.len() - 1).unwrap().is_none());
        let mut other = bytes.clone();
        other[9_299_999] ^= 1;
        assert!(read(&other, other.len()).unwrap().is_none());
    }

    #[test]
    fn a_collector_stops_at_its_cap() {
        assert!(Collector::new(10, Some(11)).is_err());
        let mut collector = Collector::new(10, None).unwrap();
        collector.push(&[0; 10]).unwrap();
        assert!(collector.push(&[0]).is_err());
    }
}
