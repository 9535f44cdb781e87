//! Who runs next: a bounded number of runs at once, a bounded number that wait, and turns between tenants.
//!
//! A free place goes to the waiting tenant that has the fewest runs under way, so one that floods waits
//! behind its own runs. While execution is held (freeze, disabled) nothing is granted and nothing begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, oneshot};

/// The places in which runs execute, and the queue before them.
#[derive(Debug)]
pub(crate) struct Slots {
    queue_max: usize,
    state: Mutex<State>,
    held: RwLock<bool>,
    thaw: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    held: bool,
    /// Accepted and not yet begun.
    queued: usize,
    tenants: HashMap<Arc<str>, Tenant>,
}

#[derive(Debug, Default)]
struct Tenant {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

/// A run that has been accepted and has not begun. Dropping it makes room in the queue.
#[derive(Debug)]
pub(crate) struct Queued(Arc<Slots>);

/// The right to execute one run. Dropping it passes the right on.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    tenant: Arc<str>,
}

impl Slots {
    /// `workers` runs at once, `queue_max` waiting.
    pub(crate) fn new(workers: usize, queue_max: usize) -> Arc<Slots> {
        let state = State { free: workers, held: false, queued: 0, tenants: HashMap::new() };
        Arc::new(Slots { queue_max, state: Mutex::new(state), held: RwLock::new(false), thaw: Notify::new() })
    }

    /// Takes a place in the queue; `None` when it is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Queued> {
        let mut state = self.state.lock();
        // One that finds a place free does not wait: it only passes through.
        if state.queued >= self.queue_max + state.free {
            return None;
        }
        state.queued += 1;
        Some(Queued(Arc::clone(self)))
    }

    /// As [`Slots::enter`] for a run that was accepted before a restart: it is never refused.
    pub(crate) fn enter_again(self: &Arc<Self>) -> Queued {
        self.state.lock().queued += 1;
        Queued(Arc::clone(self))
    }

    /// How many have been accepted and have not begun.
    pub(crate) fn queued(&self) -> usize {
        self.state.lock().queued
    }

    /// Waits for the right to execute. Dropping the future gives the place in the line up.
    pub(crate) async fn acquire(self: &Arc<Self>, tenant: &Arc<str>) -> Slot {
        loop {
            let waiting = {
                let mut state = self.state.lock();
                let nobody_waits = state.tenants.values().all(|tenant| tenant.waiting.is_empty());
                if state.free > 0 && !state.held && nobody_waits {
                    return self.grant(&mut state, tenant);
                }
                let (sender, receiver) = oneshot::channel();
                state.tenants.entry(Arc::clone(tenant)).or_default().waiting.push_back(sender);
                receiver
            };
            if let Ok(slot) = waiting.await {
                return slot;
            }
        }
    }

    /// Keeps everything that has not begun from beginning, or lets it go on. When it returns, no run can begin any
    /// more that had not.
    pub(crate) fn hold(self: &Arc<Self>, held: bool) {
        *self.held.write() = held;
        self.state.lock().held = held;
        if !held {
            self.thaw.notify_waiters();
            self.pass_on();
        }
    }

    /// Waits until runs may begin. As long as the guard lives, [`Slots::hold`] waits: begin at once, and do not await.
    pub(crate) async fn may_begin(&self) -> RwLockReadGuard<'_, bool> {
        loop {
            let thaw = self.thaw.notified();
            {
                let held = self.held.read();
                if !*held {
                    return held;
                }
            }
            thaw.await;
        }
    }

    fn grant(self: &Arc<Self>, state: &mut State, tenant: &Arc<str>) -> Slot {
        state.free -= 1;
        state.tenants.entry(Arc::clone(tenant)).or_default().running += 1;
        Slot { slots: Arc::clone(self), tenant: Arc::clone(tenant) }
    }

    /// Gives free places to those who wait.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            if state.free == 0 || state.held {
                return;
            }
            let next = state
                .tenants
                .iter()
                .filter(|(_, tenant)| !tenant.waiting.is_empty())
                .min_by_key(|(_, tenant)| tenant.running)
                .map(|(name, _)| Arc::clone(name));
            let Some(name) = next else { return };
            let Some(waiter) = state.tenants.get_mut(&name).and_then(|tenant| tenant.waiting.pop_front())
            else {
                return;
            };
            let slot = self.grant(&mut state, &name);
            // A waiter that has left sends the slot back; it is dropped outside the lock and passed on again.
            drop(state);
            drop(waiter.send(slot));
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.queued = state.queued.saturating_sub(1);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.state.lock();
            state.free += 1;
            if let Some(tenant) = state.tenants.get_mut(&self.tenant) {
                tenant.running = tenant.running.saturating_sub(1);
                if tenant.running == 0 && tenant.waiting.is_empty() {
                    state.tenants.remove(&self.tenant);
                }
            }
        }
        self.slots.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_tenant_with_fewest_runs_is_next() {
        let slots = Slots::new(2, 10);
        let flood = tenant("flood");
        let held: Vec<_> = [slots.acquire(&flood).await, slots.acquire(&flood).await].into();
        let flooding: Vec<_> = (0..5).map(|_| Box::pin(slots.acquire(&flood))).collect();
        let mut order = futures_in_order(&slots, flooding, "one");
        drop(held);
        assert_eq!(order.recv().await.as_deref(), Some("one"));
    }

    fn futures_in_order<'a>(
        slots: &Arc<Slots>,
        flooding: Vec<std::pin::Pin<Box<impl Future<Output = Slot> + 'a>>>,
        other: &'static str,
    ) -> tokio::sync::mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let slots = Arc::clone(slots);
        let mut flooding = flooding;
        // Polled once, so that they stand in the line before the other tenant comes.
        for waiting in &mut flooding {
            let polled = std::future::Future::poll(
                waiting.as_mut(),
                &mut std::task::Context::from_waker(std::task::Waker::noop()),
            );
            assert!(polled.is_pending());
        }
        tokio::spawn(async move {
            let slot = slots.acquire(&Arc::from(other)).await;
            let _ = sender.send(other.to_owned());
            drop(slot);
        });
        receiver
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_leaves_the_line_does_not_keep_its_place() {
        let slots = Slots::new(1, 10);
        let name = tenant("a");
        let first = slots.acquire(&name).await;
        {
            let mut left = Box::pin(slots.acquire(&name));
            let polled = left.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(polled.is_pending());
        }
        drop(first);
        let _second =
            tokio::time::timeout(std::time::Duration::from_secs(5), slots.acquire(&name)).await.unwrap();
    }

    #[test]
    fn a_full_queue_refuses_and_an_empty_place_lets_pass() {
        let slots = Slots::new(1, 1);
        let first = slots.enter();
        let second = slots.enter();
        assert!(first.is_some() && second.is_some());
        assert!(slots.enter().is_none());
        drop(first);
        assert!(slots.enter().is_some());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_begins_while_held() {
        let slots = Slots::new(1, 1);
        slots.hold(true);
        let name = tenant("a");
        let mut waiting = Box::pin(slots.acquire(&name));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let mut begin = Box::pin(slots.may_begin());
        assert!(begin.as_mut().poll(&mut context).is_pending());
        slots.hold(false);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        assert!(begin.as_mut().poll(&mut context).is_ready());
    }
}
