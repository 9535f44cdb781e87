//! UnixFS files: from a `dag-pb` root block to the file's bytes, every block compared with the link that led to it.

mod known_layouts;
mod pb;
mod walk;

use std::fs::Metadata;
use std::path::Path;

use bytes::Bytes;

use crate::answer::Miss;
use crate::car;
use crate::files::{self, Trouble};
use crate::source::Found;
use crate::verify::Block;
use crate::want::Want;

use known_layouts::from_bytes;
pub(crate) use walk::Walk;

/// The largest block of a DAG. Bitswap moves at most 2 MiB; twice that is accepted.
pub(crate) const MAX_BLOCK: u64 = 4 << 20;

/// Bytes that may be fetched for a file of at most `max_file` bytes: the file, the links, and a CAR's framing.
pub(crate) fn fetch_cap(max_file: u64) -> u64 {
    max_file.saturating_add(max_file / 8).saturating_add(1 << 20)
}

/// Reads the file under `root` from a CAR. Blocks that the walk does not reach are ignored.
pub(crate) fn from_car(root: &Want, bytes: Bytes, max_file: u64) -> Result<Found, Miss> {
    let blocks = car::read(&bytes).map_err(Miss::Failed)?;
    let mut walk = Walk::new(*root, max_file);
    while let Some(want) = walk.next() {
        let Some(bytes) = blocks.get(want.digest()) else {
            return Err(Miss::Failed("delivered a CAR that lacks blocks".to_owned()));
        };
        let Some(block) = Block::check(bytes.clone(), want.digest()) else {
            return Err(Miss::Lied("delivered a CAR with other bytes in a block".to_owned()));
        };
        walk.feed(&want, &block)?;
    }
    walk.finish()
}

/// Reads the file under `root` from `folder/name`: a CAR where it is called so, else the file itself. Blocking.
///
/// Outer error: the file is of no use. Inner error: the DAG is, by the word of its verified blocks, no module's.
pub(crate) fn from_file(
    root: &Want,
    folder: &Path,
    name: &Path,
    max_file: u64,
) -> Result<(Result<Found, String>, Metadata), Trouble> {
    let is_car = name.extension().is_some_and(|kind| kind == "car");
    let cap = if is_car { fetch_cap(max_file) } else { max_file };
    let (bytes, metadata) = files::read_whole(folder, name, cap)?;
    let bytes = Bytes::from(bytes);
    if !is_car {
        let found = from_bytes(root, &bytes).ok_or(Trouble::Incomparable)?;
        return Ok((Ok(found), metadata));
    }
    match from_car(root, bytes, max_file) {
        Ok(mut found) => {
            // It lies there already.
            found.proof = None;
            Ok((Ok(found), metadata))
        }
        Err(Miss::Invalid(why)) => Ok((Err(why), metadata)),
        // Broken, cut short, or with other bytes.
        Err(_) => Err(Trouble::OtherBytes),
    }
}
