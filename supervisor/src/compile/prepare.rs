//! Modules that are to be compiled before anybody runs them: those that were uploaded.
//!
//! Only names wait here, bounded in all and for each tenant, and the tenants take turns. One is compiled at a time, on
//! the side, by a process that gives way to all others; a run that wants the module meanwhile waits for that one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Names that wait, of all tenants and of one. What comes beyond is compiled when it is run.
const WAITING: usize = 1024;
const WAITING_OF_ONE: usize = 128;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Preparations {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each tenant that waits stands here once.
    turns: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<[u8; 32]>>,
    count: usize,
}

impl Preparations {
    /// Asks that this tenant's module be compiled, by the digest of its bytes.
    pub(crate) fn add(&self, tenant: &Arc<str>, sha256: [u8; 32]) {
        let mut state = self.state.lock();
        if state.count >= WAITING {
            return;
        }
        let line = state.waiting.entry(Arc::clone(tenant)).or_default();
        if line.len() >= WAITING_OF_ONE || line.contains(&sha256) {
            return;
        }
        line.push_back(sha256);
        let first = line.len() == 1;
        state.count += 1;
        if first {
            state.turns.push_back(Arc::clone(tenant));
        }
        drop(state);
        self.more.notify_one();
    }

    /// Waits for the next one.
    pub(crate) async fn next(&self) -> (Arc<str>, [u8; 32]) {
        loop {
            if let Some(next) = self.state.lock().next() {
                return next;
            }
            self.more.notified().await;
        }
    }
}

impl State {
    fn next(&mut self) -> Option<(Arc<str>, [u8; 32])> {
        let tenant = self.turns.pop_front()?;
        let line = self.waiting.get_mut(&tenant)?;
        let sha256 = line.pop_front()?;
        self.count -= 1;
        if line.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(Arc::clone(&tenant));
        }
        Some((tenant, sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_nothing_waits_twice_or_without_bound() {
        let preparations = Preparations::default();
        let (loud, quiet) = (Arc::from("loud"), Arc::from("quiet"));
        for n in 0..=255 {
            preparations.add(&loud, [n; 32]);
            preparations.add(&loud, [0; 32]);
        }
        preparations.add(&quiet, [9; 32]);
        let mut state = preparations.state.lock();
        assert_eq!(state.count, WAITING_OF_ONE + 1);
        assert_eq!(state.next(), Some((loud.clone(), [0; 32])));
        assert_eq!(state.next(), Some((quiet, [9; 32])));
        assert_eq!(state.next(), Some((loud, [1; 32])));
        while state.next().is_some() {}
        assert!(state.count == 0 && state.waiting.is_empty() && state.turns.is_empty());
    }
}
