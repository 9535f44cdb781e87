//! Walking a DAG block by block at one remote source, some blocks ahead.

use std::collections::{HashMap, HashSet};
use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Refusal;
use crate::source::Found;
use crate::unixfs::Walk;
use crate::verify::Block;
use crate::want::Want;

/// Blocks asked for at once, so that a chunked file does not take a round trip for each chunk.
const AHEAD: usize = 8;

/// Walks from `root`, with `fetch` for each block but the root's own where it is `known`.
pub(super) async fn walk<F>(
    root: &Want,
    known: Option<Block>,
    max_file: u64,
    fetch: impl Fn(Want) -> F,
) -> Result<Found, Refusal>
where
    F: Future<Output = (Want, Result<Block, Refusal>)>,
{
    let mut walk = Walk::new(*root, max_file);
    let mut asked = FuturesUnordered::new();
    let mut under_way: HashSet<Want> = HashSet::new();
    let mut arrived: HashMap<Want, Block> = known.map(|block| (*root, block)).into_iter().collect();
    loop {
        let Some(next) = walk.next() else { return Ok(walk.finish()?) };
        if let Some(block) = arrived.remove(&next) {
            walk.feed(&next, &block)?;
            continue;
        }
        let ahead = walk.wanted().take(AHEAD);
        for want in ahead {
            let held = under_way.len() + arrived.len();
            // The next one is always asked for, so that blocks held for later cannot stop the walk.
            let room = held < AHEAD || want == next;
            if room && !arrived.contains_key(&want) && under_way.insert(want) {
                asked.push(fetch(want));
            }
        }
        let Some((want, block)) = asked.next().await else { continue };
        under_way.remove(&want);
        arrived.insert(want, block?);
    }
}
