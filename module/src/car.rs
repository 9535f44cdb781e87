//! CAR version 1: reading blocks out of one, bounded, and writing one.
//!
//! Reading believes nothing: it maps claimed digests to bytes, and whoever takes a block compares.

use std::collections::HashMap;

use bytes::Bytes;
use cid::Cid;

use crate::varint;
use crate::verify::Digest;
use crate::want::Want;

/// Blocks in one CAR.
const MAX_BLOCKS: usize = 65_536;
/// The header holds a few CIDs.
const MAX_HEADER: usize = 64 << 10;

/// Whether it begins as a CAR of any version does.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    varint::take_prefixed(&mut rest)
        .is_some_and(|header| header.len() <= MAX_HEADER && version(header).is_some())
}

/// The blocks by the digest that stands before each; the first of several counts. Blocks under CIDs that cannot be
/// verified here are passed over.
pub(crate) fn read(car: &Bytes) -> Result<HashMap<Digest, Bytes>, String> {
    let mut rest: &[u8] = car;
    let header = varint::take_prefixed(&mut rest).ok_or("delivered no CAR")?;
    if header.len() > MAX_HEADER {
        return Err("delivered no CAR".to_owned());
    }
    match version(header) {
        Some(1) => {}
        Some(other) => return Err(format!("delivered a CAR of version {other}, only 1 is accepted")),
        None => return Err("delivered no CAR".to_owned()),
    }
    let mut blocks = HashMap::new();
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        if count > MAX_BLOCKS {
            return Err(format!("delivered a CAR of more than {MAX_BLOCKS} blocks"));
        }
        let mut section = varint::take_prefixed(&mut rest).ok_or("delivered a CAR that is cut short")?;
        // Padding is no part of version 1, but an empty section harms nobody.
        if section.is_empty() {
            continue;
        }
        let cid = Cid::read_bytes(&mut section).map_err(|_| "delivered a CAR with a broken CID")?;
        if let Ok(want) = Want::try_from(&cid) {
            blocks.entry(*want.digest()).or_insert_with(|| car.slice_ref(section));
        }
    }
    Ok(blocks)
}

/// A CAR with one root, as pieces to be written one after the other.
pub(crate) fn write(root: &Want, blocks: &[(Want, Bytes)]) -> Option<Vec<Bytes>> {
    let root = root.cid()?.to_bytes();
    // DAG-CBOR: a map of "roots", an array of one CID (tag 42, a zero byte before it), and "version", 1.
    let mut header = vec![0xa2, 0x65];
    header.extend_from_slice(b"roots");
    header.extend_from_slice(&[0x81, 0xd8, 0x2a, 0x58, u8::try_from(root.len() + 1).ok()?, 0]);
    header.extend_from_slice(&root);
    header.push(0x67);
    header.extend_from_slice(b"version");
    header.push(1);
    let mut start = Vec::new();
    varint::put(&mut start, header.len() as u64);
    start.extend_from_slice(&header);
    let mut pieces = vec![Bytes::from(start)];
    for (want, block) in blocks {
        let cid = want.cid()?.to_bytes();
        let mut head = Vec::new();
        varint::put(&mut head, (cid.len() + block.len()) as u64);
        head.extend_from_slice(&cid);
        pieces.push(Bytes::from(head));
        pieces.push(block.clone());
    }
    Some(pieces)
}

/// The header's version.
fn version(header: &[u8]) -> Option<u64> {
    let mut rest = header;
    let (5, entries) = cbor_head(&mut rest)? else { return None };
    let mut version = None;
    for _ in 0..entries.min(8) {
        let (3, length) = cbor_head(&mut rest)? else { return None };
        let (key, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = after;
        if key == b"version" {
            let (0, number) = cbor_head(&mut rest)? else { return None };
            version = Some(number);
        } else {
            cbor_skip(&mut rest, 4)?;
        }
    }
    version.filter(|_| rest.is_empty())
}

/// Takes a CBOR item's major type and number. DAG-CBOR has no indefinite lengths.
fn cbor_head(bytes: &mut &[u8]) -> Option<(u8, u64)> {
    let (&first, rest) = bytes.split_first()?;
    let (major, small) = (first >> 5, first & 31);
    let width = match small {
        0..=23 => {
            *bytes = rest;
            return Some((major, u64::from(small)));
        }
        24..=27 => 1usize << (small - 24),
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    *bytes = rest;
    Some((major, number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
}

fn cbor_skip(bytes: &mut &[u8], depth: u32) -> Option<()> {
    let (major, number) = cbor_head(bytes)?;
    let inner = match major {
        0 | 1 | 7 => 0,
        2 | 3 => {
            *bytes = bytes.get(usize::try_from(number).ok()?..)?;
            0
        }
        4 => number,
        5 => number.checked_mul(2)?,
        _ => 1,
    };
    if inner > 0 && depth == 0 {
        return None;
    }
    // Each inner item takes a byte at least, so the header's length bounds this, too.
    for _ in 0..inner {
        cbor_skip(bytes, depth - 1)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::sha256;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let blocks: Vec<(Want, Bytes)> = [b"one".as_slice(), b"two"]
            .iter()
            .map(|data| (Want::Raw(sha256(data)), Bytes::copy_from_slice(data)))
            .collect();
        write(&blocks[0].0, &blocks).unwrap().concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let blocks = read(&Bytes::from(sample())).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[&sha256(b"two")], "two");
    }

    #[test]
    fn version_2_is_refused_by_name() {
        let pragma = Bytes::from(hex::decode("0aa16776657273696f6e02").unwrap());
        assert!(read(&pragma).unwrap_err().contains("version 2"));
    }

    proptest! {
        #[test]
        fn cut_or_changed_cars_are_read_or_refused(cut in 0usize..160, at in 0usize..160, to: u8) {
            let mut car = sample();
            car.truncate(cut.max(1));
            let at = at % car.len();
            car[at] = to;
            let _ = read(&Bytes::from(car));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&Bytes::from(bytes));
        }
    }
}
