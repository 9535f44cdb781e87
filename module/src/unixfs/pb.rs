//! The two protobuf messages of a UnixFS file: the dag-pb node and the UnixFS data in it. Nothing is copied, and
//! what does not belong is refused by name.
//!
//! Formats: the IPLD dag-pb specification; UnixFS 1.0 as in the IPFS specifications.

use bytes::Bytes;
use cid::Cid;

use crate::varint;
use crate::want::Want;

/// A block that is part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileNode {
    /// Bytes of the file that stand in this block, before those of the links.
    pub(super) data: Bytes,
    /// The blocks that hold the rest, in the file's order, each with the number of file bytes under it.
    pub(super) links: Vec<(Want, u64)>,
    /// Bytes of the file under this block, itself included.
    pub(super) size: u64,
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut take = || {
            let key = varint::take(&mut self.0)?;
            let value = match key & 7 {
                0 => Value::Number(varint::take(&mut self.0)?),
                2 => Value::Bytes(varint::take_prefixed(&mut self.0)?),
                // Fixed-width numbers and groups: no field of these formats has them.
                _ => return None,
            };
            Some((key >> 3, value))
        };
        Some(take().ok_or_else(|| "a block is not well-formed dag-pb".to_owned()))
    }
}

/// Reads a dag-pb block that is to be a UnixFS file or a part of one.
pub(super) fn parse(block: &Bytes) -> Result<FileNode, String> {
    let mut data = None;
    let mut wants = Vec::new();
    for field in Fields(block) {
        match field? {
            (1, Value::Bytes(bytes)) if data.is_none() => data = Some(bytes),
            (2, Value::Bytes(bytes)) => wants.push(link(bytes)?),
            _ => return Err("a block is not well-formed dag-pb".to_owned()),
        }
    }
    let data = data.ok_or("a block holds no UnixFS data")?;
    let unixfs = unixfs(data)?;
    if unixfs.sizes.len() != wants.len() {
        return Err("a block lists other sizes than links".to_owned());
    }
    let total = unixfs.sizes.iter().try_fold(unixfs.data.len() as u64, |sum, size| sum.checked_add(*size));
    let size = total.ok_or("a block's sizes do not add up")?;
    if unixfs.filesize.is_some_and(|stated| stated != size) {
        return Err("a block's sizes do not add up".to_owned());
    }
    let links = wants.into_iter().zip(unixfs.sizes).collect();
    Ok(FileNode { data: block.slice_ref(unixfs.data), links, size })
}

fn link(message: &[u8]) -> Result<Want, String> {
    let mut hash = None;
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) if hash.is_none() => hash = Some(bytes),
            // Name and total size: not needed for a file.
            (2, Value::Bytes(_)) | (3, Value::Number(_)) => {}
            _ => return Err("a link is not well-formed dag-pb".to_owned()),
        }
    }
    let cid = Cid::try_from(hash.ok_or("a link has no CID")?)
        .map_err(|_| "a link has no CID of a sha2-256 block")?;
    Want::try_from(&cid).map_err(|why| format!("a link's CID is refused: {why}"))
}

struct UnixFs<'a> {
    data: &'a [u8],
    filesize: Option<u64>,
    sizes: Vec<u64>,
}

fn unixfs(message: &[u8]) -> Result<UnixFs<'_>, String> {
    let mut kind = None;
    let mut read = UnixFs { data: message.get(..0).unwrap_or_default(), filesize: None, sizes: Vec::new() };
    for field in Fields(message) {
        match field.map_err(|_| "a block's UnixFS data is not well-formed")? {
            (1, Value::Number(number)) => kind = Some(number),
            (2, Value::Bytes(bytes)) => read.data = bytes,
            (3, Value::Number(number)) => read.filesize = Some(number),
            (4, Value::Number(number)) => read.sizes.push(number),
            // The packed form of the same field.
            (4, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let number = varint::take(&mut packed);
                    read.sizes.push(number.ok_or("a block's UnixFS data is not well-formed")?);
                }
            }
            // Sharding, mode and time: none of them changes a file's bytes.
            (5..=8, _) => {}
            _ => return Err("a block's UnixFS data is not well-formed".to_owned()),
        }
    }
    match kind {
        // Raw leaves of the older importers, and files.
        Some(0 | 2) => Ok(read),
        Some(1) => Err("it is a directory, not a file".to_owned()),
        Some(3) => Err("it is UnixFS metadata, not a file".to_owned()),
        Some(4) => Err("it is a symbolic link, not a file".to_owned()),
        Some(5) => Err("it is a sharded directory, not a file".to_owned()),
        _ => Err("it is no known kind of UnixFS node".to_owned()),
    }
}
