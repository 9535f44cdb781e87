//! A whole file beside a `dag-pb` CID: is it the file under that root? Its bytes alone cannot tell, since the CID
//! depends on how the importer cut them. So the DAG is built again in the ways that the common importers cut
//! (Kubo and the JavaScript importer, with their defaults of several years), and the roots are compared.
//!
//! A "yes" is as good as a walk: the root's hash covers every byte. A "no" only says that it was cut otherwise.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::source::Found;
use crate::varint;
use crate::verify::{Digest, Verified, sha256};
use crate::want::Want;

/// Bytes of the file in a leaf: Kubo's and the older JavaScript default, and the newer one.
const CHUNKS: [usize; 2] = [256 << 10, 1 << 20];
/// Links of a node: Kubo's default and the newer one.
const WIDTHS: [usize; 2] = [174, 1024];

/// How leaves and links are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Leaves are plain bytes; CIDv1.
    RawLeaves,
    /// Leaves are dag-pb; CIDv0 in the links.
    V0,
    /// Leaves are dag-pb; CIDv1 in the links.
    V1,
}

#[derive(Debug, Clone)]
struct Node {
    digest: Digest,
    raw: bool,
    /// File bytes under it.
    size: u64,
    /// Bytes of all blocks under it, itself included.
    total: u64,
}

/// Takes the bytes if one of the known ways to cut them leads to `root`.
pub(crate) fn from_bytes(root: &Want, bytes: &Bytes) -> Option<Found> {
    let Want::Dag(root, _) = root else { return None };
    for chunk in CHUNKS {
        for form in [Form::RawLeaves, Form::V0, Form::V1] {
            let leaves: Vec<Node> = bytes.chunks(chunk).map(|piece| leaf(piece, form)).collect();
            // A single leaf is its own root; a raw one has a raw CID and is not looked for here.
            let found = match leaves.as_slice() {
                [] => false,
                [only] => !only.raw && only.digest == *root,
                _ => WIDTHS.iter().any(|width| balanced(leaves.clone(), *width, form) == Some(*root)),
            };
            if found {
                return Some(Verified::under_root(bytes.clone()).into());
            }
        }
    }
    None
}

fn leaf(piece: &[u8], form: Form) -> Node {
    let size = piece.len() as u64;
    if form == Form::RawLeaves {
        return Node { digest: sha256(piece), raw: true, size, total: size };
    }
    let mut head = vec![0x08, 2, 0x12];
    varint::put(&mut head, size);
    let mut tail = vec![0x18];
    varint::put(&mut tail, size);
    let mut block = vec![0x0a];
    varint::put(&mut block, (head.len() + piece.len() + tail.len()) as u64);
    block.extend_from_slice(&head);
    let total = (block.len() + piece.len() + tail.len()) as u64;
    let digest = Sha256::new().chain_update(&block).chain_update(piece).chain_update(&tail).finalize();
    Node { digest: digest.into(), raw: false, size, total }
}

fn balanced(mut level: Vec<Node>, width: usize, form: Form) -> Option<Digest> {
    while level.len() > 1 {
        level = level.chunks(width).map(|children| parent(children, form)).collect();
    }
    level.first().map(|node| node.digest)
}

fn parent(children: &[Node], form: Form) -> Node {
    let size = children.iter().map(|child| child.size).sum();
    let mut unixfs = vec![0x08, 2, 0x18];
    varint::put(&mut unixfs, size);
    let mut block = Vec::new();
    for child in children {
        unixfs.push(0x20);
        varint::put(&mut unixfs, child.size);
        let mut link = cid_bytes(child, form);
        // An empty name, then the total size.
        link.extend_from_slice(&[0x12, 0, 0x18]);
        varint::put(&mut link, child.total);
        block.push(0x12);
        varint::put(&mut block, link.len() as u64);
        block.extend_from_slice(&link);
    }
    block.push(0x0a);
    varint::put(&mut block, unixfs.len() as u64);
    block.extend_from_slice(&unixfs);
    let total = block.len() as u64 + children.iter().map(|child| child.total).sum::<u64>();
    Node { digest: sha256(&block), raw: false, size, total }
}

/// The link's first field: the child's CID with its length.
fn cid_bytes(child: &Node, form: Form) -> Vec<u8> {
    let prefix: &[u8] = match (form, child.raw) {
        (Form::V0, _) => &[0x0a, 34, 0x12, 0x20],
        (_, true) => &[0x0a, 36, 0x01, 0x55, 0x12, 0x20],
        (_, false) => &[0x0a, 36, 0x01, 0x70, 0x12, 0x20],
    };
    [prefix, &child.digest].concat()
}
