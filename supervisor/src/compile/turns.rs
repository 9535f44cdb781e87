//! Turns between tenants: a number of places, each held for a while.
//!
//! A free place goes to the waiting tenant that holds the fewest, and among equals to the one whose last turn is the
//! longest ago, so that one that asks for a hundred things waits behind its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// From so many on, a line is looked through for those that have gone before another is added.
const LONG_LINE: usize = 64;

/// The places, and who waits for one.
#[derive(Debug)]
pub(crate) struct Turns {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    given: u64,
    tenants: HashMap<Arc<str>, Line>,
}

/// One tenant's. It is there while it holds or waits for something.
#[derive(Debug, Default)]
struct Line {
    held: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// When it was served last, by count.
    served: u64,
}

/// A place that is held. Dropping it passes it on.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn(Option<(Arc<Turns>, Arc<str>)>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, tenant)) = self.0.take() {
            turns.give_back(&tenant);
            turns.pass_on();
        }
    }
}

impl Turns {
    /// `places` in all, of which one tenant may hold `most`.
    pub(crate) fn new(places: usize, most: usize) -> Arc<Turns> {
        let state = State { free: places.max(1), given: 0, tenants: HashMap::new() };
        Arc::new(Turns { most: most.max(1), state: Mutex::new(state) })
    }

    /// Waits for a place. Whoever stops waiting is passed over.
    pub(crate) async fn take(self: &Arc<Self>, tenant: &Arc<str>) -> Turn {
        loop {
            let waiting = {
                let mut state = self.state.lock();
                // While a place is free, those that wait are tenants that may not have more.
                if state.free > 0 && state.tenants.get(tenant).is_none_or(|line| line.held < self.most) {
                    state.grant(tenant);
                    return self.turn(tenant);
                }
                let line = state.tenants.entry(Arc::clone(tenant)).or_default();
                if line.waiting.len() >= LONG_LINE {
                    line.waiting.retain(|waiting| !waiting.is_closed());
                }
                let (tell, waiting) = oneshot::channel();
                line.waiting.push_back(tell);
                waiting
            };
            // Nobody drops the other end but by sending.
            if let Ok(turn) = waiting.await {
                return turn;
            }
        }
    }

    fn turn(self: &Arc<Self>, tenant: &Arc<str>) -> Turn {
        Turn(Some((Arc::clone(self), Arc::clone(tenant))))
    }

    fn give_back(&self, tenant: &Arc<str>) {
        let mut state = self.state.lock();
        state.free += 1;
        if let Some(line) = state.tenants.get_mut(tenant) {
            line.held -= 1;
            if line.held == 0 && line.waiting.is_empty() {
                state.tenants.remove(tenant);
            }
        }
    }

    /// Gives free places to those who wait for them.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = self.state.lock().next(self.most);
            let Some((tenant, waiting)) = next else { return };
            if let Err(mut turn) = waiting.send(self.turn(&tenant)) {
                // Its owner waits no more. Not by dropping it: that would come back here, once for each that has gone.
                turn.0 = None;
                self.give_back(&tenant);
            }
        }
    }
}

impl State {
    fn grant(&mut self, tenant: &Arc<str>) {
        self.free -= 1;
        self.given += 1;
        let line = self.tenants.entry(Arc::clone(tenant)).or_default();
        line.held += 1;
        line.served = self.given;
    }

    fn next(&mut self, most: usize) -> Option<(Arc<str>, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        let tenant = self
            .tenants
            .iter()
            .filter(|(_, line)| line.held < most && !line.waiting.is_empty())
            .min_by_key(|(_, line)| (line.held, line.served))
            .map(|(tenant, _)| Arc::clone(tenant))?;
        let waiting = self.tenants.get_mut(&tenant)?.waiting.pop_front()?;
        self.grant(&tenant);
        Some((tenant, waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_tenant_with_many_waits_behind_its_own() {
        let (turns, loud, quiet) = (Turns::new(1, 1), Arc::from("loud"), Arc::from("quiet"));
        let first = poll(pin!(turns.take(&loud))).unwrap();
        let mut second = pin!(turns.take(&loud));
        let mut third = pin!(turns.take(&loud));
        let mut other = pin!(turns.take(&quiet));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        assert!(poll(other.as_mut()).is_none());
        drop(first);
        assert!(poll(second.as_mut()).is_none());
        let turn = poll(other.as_mut()).unwrap();
        drop(turn);
        drop(poll(second.as_mut()).unwrap());
        drop(poll(third.as_mut()).unwrap());
        assert!(turns.state.lock().tenants.is_empty());
        assert_eq!(turns.state.lock().free, 1);
    }

    #[test]
    fn one_tenant_leaves_places_for_others() {
        let (turns, loud) = (Turns::new(3, 2), Arc::from("loud"));
        let held = [poll(pin!(turns.take(&loud))).unwrap(), poll(pin!(turns.take(&loud))).unwrap()];
        let mut more = pin!(turns.take(&loud));
        assert!(poll(more.as_mut()).is_none());
        drop(poll(pin!(turns.take(&Arc::from("quiet")))).unwrap());
        assert!(poll(more.as_mut()).is_none());
        drop(held);
        assert!(poll(more.as_mut()).is_some());
    }

    #[test]
    fn those_that_have_gone_are_passed_over_and_nothing_is_lost() {
        let (turns, tenant) = (Turns::new(1, 9), Arc::from("t"));
        let held = poll(pin!(turns.take(&tenant))).unwrap();
        for _ in 0..100_000 {
            assert!(poll(pin!(turns.take(&tenant))).is_none());
        }
        assert!(turns.state.lock().tenants[&tenant].waiting.len() <= LONG_LINE);
        let mut granted_and_dropped = Box::pin(turns.take(&tenant));
        assert!(poll(granted_and_dropped.as_mut()).is_none());
        drop(held);
        drop(granted_and_dropped);
        assert_eq!(turns.state.lock().free, 1);
        assert!(turns.state.lock().tenants.is_empty());
    }
}
