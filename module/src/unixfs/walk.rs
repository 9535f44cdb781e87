//! The walk from a root block to the file, as a state machine without I/O: it says which blocks it wants next and
//! is fed verified ones. Bounded in depth, blocks and size before anything is asked for.

use std::collections::HashMap;

use bytes::Bytes;

use super::pb;
use crate::answer::Miss;
use crate::car;
use crate::source::Found;
use crate::verify::{Block, Verified};
use crate::want::Want;

/// Levels below the root. Balanced DAGs of the largest module have 2 or 3; the rest is for trickle DAGs.
const MAX_DEPTH: u32 = 32;
/// Blocks of one file, each counted as often as it is linked.
const MAX_BLOCKS: usize = 65_536;
/// How far ahead blocks are named.
const LOOK_AHEAD: usize = 64;

struct Pending {
    want: Want,
    /// File bytes that the parent says are under it; nobody says so for the root.
    size: Option<u64>,
    depth: u32,
}

/// A walk under way.
pub(crate) struct Walk {
    root: Want,
    max_file: u64,
    /// The block that comes next in the file stands last.
    pending: Vec<Pending>,
    planned: usize,
    file: Vec<u8>,
    /// Each block once, in the order of the walk, for the proof.
    blocks: Vec<(Want, Bytes)>,
    known: HashMap<Want, Block>,
    block_bytes: u64,
}

impl Walk {
    pub(crate) fn new(root: Want, max_file: u64) -> Self {
        let pending = vec![Pending { want: root, size: None, depth: 0 }];
        Self {
            root,
            max_file,
            pending,
            planned: 1,
            file: Vec::new(),
            blocks: Vec::new(),
            known: HashMap::new(),
            block_bytes: 0,
        }
    }

    /// The block that is to be fed, if the file is not complete.
    pub(crate) fn next(&self) -> Option<Want> {
        self.pending.last().map(|pending| pending.want)
    }

    /// Blocks that will be asked for, in order, that one included; some of the first, not all.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Want> + '_ {
        let first = self.pending.iter().rev().take(LOOK_AHEAD);
        first.map(|pending| pending.want).filter(|want| !self.known.contains_key(want))
    }

    /// Takes the block that comes next. Errors are facts about the DAG, since the block is verified.
    pub(crate) fn feed(&mut self, want: &Want, block: &Block) -> Result<(), Miss> {
        if self.next() != Some(*want) {
            return Err(Miss::Failed("the walk was given another block than the next".to_owned()));
        }
        self.block_bytes += block.bytes().len() as u64;
        if self.block_bytes > super::fetch_cap(self.max_file) {
            return Err(Miss::Invalid(format!("it has more than the {} bytes allowed", self.max_file)));
        }
        self.blocks.push((*want, block.bytes().clone()));
        self.known.insert(*want, block.clone());
        // A block that comes again is not asked for again.
        while let Some(pending) = self.pending.pop() {
            let Some(block) = self.known.get(&pending.want).cloned() else {
                self.pending.push(pending);
                break;
            };
            self.take(&pending, &block)?;
        }
        Ok(())
    }

    fn take(&mut self, pending: &Pending, block: &Block) -> Result<(), Miss> {
        match pending.want {
            Want::Raw(_) => {
                self.check_size(pending, block.bytes().len() as u64)?;
                self.append(block.bytes())
            }
            Want::Dag(..) => {
                let node = pb::parse(block.bytes()).map_err(Miss::Invalid)?;
                self.check_size(pending, node.size)?;
                self.append(&node.data)?;
                self.plan(pending, node.links)
            }
        }
    }

    fn check_size(&self, pending: &Pending, size: u64) -> Result<(), Miss> {
        if size > self.max_file {
            return Err(Miss::Invalid(format!(
                "it has {size} bytes and at most {} are allowed",
                self.max_file
            )));
        }
        match pending.size {
            Some(stated) if stated != size => {
                Err(Miss::Invalid("a block has another size than its parent says".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Miss> {
        if self.file.len() as u64 + data.len() as u64 > self.max_file {
            return Err(Miss::Invalid(format!("it has more than the {} bytes allowed", self.max_file)));
        }
        self.file.extend_from_slice(data);
        Ok(())
    }

    fn plan(&mut self, parent: &Pending, links: Vec<(Want, u64)>) -> Result<(), Miss> {
        self.planned = self.planned.saturating_add(links.len());
        if self.planned > MAX_BLOCKS {
            return Err(Miss::Invalid(format!("its DAG has more than {MAX_BLOCKS} blocks")));
        }
        let depth = parent.depth + 1;
        if depth > MAX_DEPTH && !links.is_empty() {
            return Err(Miss::Invalid(format!("its DAG is deeper than {MAX_DEPTH} levels")));
        }
        let children = links.into_iter().rev();
        self.pending.extend(children.map(|(want, size)| Pending { want, size: Some(size), depth }));
        Ok(())
    }

    /// The file, with its proof. Call when nothing is wanted any more.
    pub(crate) fn finish(self) -> Result<Found, Miss> {
        if !self.pending.is_empty() {
            return Err(Miss::Failed("the walk ended early".to_owned()));
        }
        let proof = car::write(&self.root, &self.blocks);
        Ok(Found { module: Verified::under_root(self.file), proof, place: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::sha256;
    use crate::want::Form;
    use proptest::prelude::*;

    fn fed(bytes: Vec<u8>, max_file: u64) -> Result<Walk, Miss> {
        let want = Want::Dag(sha256(&bytes), Form::V1);
        let block = Block::check(Bytes::from(bytes), want.digest()).unwrap();
        let mut walk = Walk::new(want, max_file);
        walk.feed(&want, &block).map(|()| walk)
    }

    #[test]
    fn a_walk_takes_only_the_block_that_it_asked_for() {
        let other = Block::check(Bytes::from_static(b"x"), &sha256(b"x")).unwrap();
        let mut walk = Walk::new(Want::Raw([1; 32]), 10);
        assert!(matches!(walk.feed(&Want::Raw(sha256(b"x")), &other), Err(Miss::Failed(_))));
        assert!(walk.finish().is_err());
    }

    proptest! {
        /// Any block with the right hash is read or refused, and what is read keeps the bounds.
        #[test]
        fn any_block_is_read_or_refused(bytes: Vec<u8>) {
            if let Ok(walk) = fed(bytes, 64) {
                prop_assert!(walk.file.len() <= 64);
            }
        }

        /// The same for blocks that are nearly right: a small UnixFS file with a byte changed.
        #[test]
        fn nearly_right_blocks_are_read_or_refused(at in 0usize..20, to: u8, max in 0u64..12) {
            let mut bytes = vec![0x0a, 0x0b, 0x08, 0x02, 0x12, 0x05, 1, 2, 3, 4, 5, 0x18, 0x05];
            let index = at % bytes.len();
            bytes[index] = to;
            if let Ok(walk) = fed(bytes, max) {
                prop_assert!(walk.file.len() as u64 <= max);
            }
        }
    }
}
