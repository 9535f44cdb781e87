//! Who runs next: a bounded number of runs at once, a bounded number that wait, and turns between tenants.
//!
//! A free place goes to the waiting tenant that has the fewest runs under way, so one that floods waits behind its own
//! runs. That alone would let the others wait for a whole run of the flood, so a tenant that had a run lately and has
//! none now finds a place kept for it (up to half of all), and on the processor the runs of a tenant that has several
//! under way stand back behind those of the others. While execution is held (freeze, disabled) nothing is granted and
//! nothing begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, oneshot};

/// How long a tenant without runs has a place kept.
const LATELY: Duration = Duration::from_secs(10);
/// How much further each further run of a tenant stands back, and how far at most. At 10 a process has a ninth of the
/// weight of one at 0: it gives way, and still moves.
const NICE_STEP: usize = 2;
const NICE_MAX: usize = 10;
/// The times that a client is told to wait, in seconds.
const RETRY_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=60.0;

/// The places in which runs execute, and the queue before them.
#[derive(Debug)]
pub(crate) struct Slots {
    workers: usize,
    state: Mutex<State>,
    held: RwLock<bool>,
    thaw: Notify,
}

#[derive(Debug)]
struct State {
    /// How many may wait.
    queue_max: usize,
    free: usize,
    held: bool,
    /// Accepted and not yet begun.
    queued: usize,
    /// Those that stand in some tenant's line.
    waiting: usize,
    /// Counts grants, for turns between tenants that have equally many runs.
    turn: u64,
    /// How long a place is taken by one run, a moving mean.
    taken: Duration,
    tenants: HashMap<Arc<str>, Tenant>,
}

#[derive(Debug)]
struct Tenant {
    queued: usize,
    running: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
    turn: u64,
    seen: Instant,
}

impl Tenant {
    fn new() -> Tenant {
        Tenant { queued: 0, running: 0, waiting: VecDeque::new(), turn: 0, seen: Instant::now() }
    }

    fn is_here(&self) -> bool {
        self.queued > 0 || self.running > 0 || !self.waiting.is_empty()
    }
}

/// A run that has been accepted and has not begun. Dropping it makes room in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    slots: Arc<Slots>,
    tenant: Arc<str>,
}

/// The right to execute one run. Dropping it passes the right on.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    tenant: Arc<str>,
    since: Instant,
    nice: u8,
}

impl Slot {
    /// How far the run stands back on the processor, 0 to 19.
    pub(crate) fn nice(&self) -> u8 {
        self.nice
    }
}

/// There is no room in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// How many wait.
    pub(crate) waiting: usize,
    /// When they will have begun, by how long runs took lately.
    pub(crate) seconds: u32,
}

impl Slots {
    /// `workers` runs at once, `queue_max` waiting.
    pub(crate) fn new(workers: usize, queue_max: usize) -> Arc<Slots> {
        let state = State {
            queue_max,
            free: workers,
            held: false,
            queued: 0,
            waiting: 0,
            turn: 0,
            taken: Duration::ZERO,
            tenants: HashMap::new(),
        };
        Arc::new(Slots { workers, state: Mutex::new(state), held: RwLock::new(false), thaw: Notify::new() })
    }

    /// Takes a place in the queue. A tenant that is not `alone` may take two of three: what is left by any number that
    /// flood is never nothing, and shrinks with each.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &Arc<str>, alone: bool) -> Result<Queued, Full> {
        let mut state = self.state.lock();
        // One that finds a place free does not wait: it only passes through.
        let room = (state.queue_max + state.free).saturating_sub(state.queued);
        let own = state.tenants.get(tenant).map_or(0, |tenant| tenant.queued);
        if room == 0 || (!alone && own >= 2 * room) {
            return Err(self.full(&state));
        }
        Ok(self.queue(&mut state, tenant))
    }

    /// As [`Slots::enter`] for a run that was accepted before a restart: it is never refused.
    pub(crate) fn enter_again(self: &Arc<Self>, tenant: &Arc<str>) -> Queued {
        self.queue(&mut self.state.lock(), tenant)
    }

    /// Whether anybody could enter.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.queued < state.queue_max + state.free
    }

    /// From now on so many may wait. Those that do already stay.
    pub(crate) fn let_wait(&self, queue_max: usize) {
        self.state.lock().queue_max = queue_max;
    }

    fn queue(self: &Arc<Self>, state: &mut State, tenant: &Arc<str>) -> Queued {
        state.queued += 1;
        match state.tenants.get_mut(tenant) {
            Some(known) => known.queued += 1,
            None => {
                // Tenants are few; those that left long ago go when another comes.
                state.tenants.retain(|_, tenant| tenant.is_here() || tenant.seen.elapsed() < LATELY);
                state.tenants.insert(Arc::clone(tenant), Tenant { queued: 1, ..Tenant::new() });
            }
        }
        Queued { slots: Arc::clone(self), tenant: Arc::clone(tenant) }
    }

    fn full(&self, state: &State) -> Full {
        let all = state.taken.as_secs_f64() * state.queued as f64 / self.workers.max(1) as f64;
        let seconds = all.ceil().clamp(*RETRY_SECONDS.start(), *RETRY_SECONDS.end());
        Full { waiting: state.queued, seconds: seconds as u32 }
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
                // Enough for all that a place could be kept for.
                if state.waiting == 0 && !state.held && state.free > state.tenants.len() {
                    return self.grant(&mut state, tenant);
                }
                let (sender, receiver) = oneshot::channel();
                state.waiting += 1;
                state.tenants.entry(Arc::clone(tenant)).or_insert_with(Tenant::new).waiting.push_back(sender);
                receiver
            };
            self.pass_on();
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
            if let Some(free) = self.may_begin_now() {
                return free;
            }
            thaw.await;
        }
    }

    /// As [`Slots::may_begin`], where runs may begin now.
    pub(crate) fn may_begin_now(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let held = self.held.read();
        (!*held).then_some(held)
    }

    fn grant(self: &Arc<Self>, state: &mut State, name: &Arc<str>) -> Slot {
        state.free -= 1;
        state.turn += 1;
        let alone = state.tenants.len() <= 1;
        let tenant = state.tenants.entry(Arc::clone(name)).or_insert_with(Tenant::new);
        let others = if alone { 0 } else { tenant.running };
        tenant.running += 1;
        tenant.turn = state.turn;
        let nice = u8::try_from((others * NICE_STEP).min(NICE_MAX)).unwrap_or(0);
        Slot { slots: Arc::clone(self), tenant: Arc::clone(name), since: Instant::now(), nice }
    }

    /// The waiting tenant whose turn it is, where there is a place for it.
    fn next(&self, state: &State) -> Option<Arc<str>> {
        if state.free == 0 || state.held || state.waiting == 0 {
            return None;
        }
        let (name, tenant) = state
            .tenants
            .iter()
            .filter(|(_, tenant)| !tenant.waiting.is_empty())
            .min_by_key(|(_, tenant)| (tenant.running, tenant.turn))?;
        let kept_for =
            |other: &Tenant| other.running == 0 && other.waiting.is_empty() && other.seen.elapsed() < LATELY;
        // A tenant's first run takes a place that is kept: its own.
        let kept = match tenant.running {
            0 => 0,
            _ => state.tenants.values().filter(|tenant| kept_for(tenant)).count().min(self.workers / 2),
        };
        (state.free > kept).then(|| Arc::clone(name))
    }

    /// Gives free places to those who wait.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let Some(name) = self.next(&state) else { return };
            let Some(waiter) = state.tenants.get_mut(&name).and_then(|tenant| tenant.waiting.pop_front())
            else {
                return;
            };
            state.waiting -= 1;
            // One that has left the line takes no turn.
            if waiter.is_closed() {
                continue;
            }
            let slot = self.grant(&mut state, &name);
            // A waiter that leaves in this moment sends the slot back; it is dropped outside the lock and passed on again.
            drop(state);
            drop(waiter.send(slot));
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.queued = state.queued.saturating_sub(1);
        if let Some(tenant) = state.tenants.get_mut(&self.tenant) {
            tenant.queued = tenant.queued.saturating_sub(1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.state.lock();
            state.free += 1;
            let taken = self.since.elapsed();
            state.taken = if state.taken.is_zero() { taken } else { (state.taken * 7 + taken) / 8 };
            if let Some(tenant) = state.tenants.get_mut(&self.tenant) {
                tenant.running = tenant.running.saturating_sub(1);
                tenant.seen = Instant::now();
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
        let name = tenant("a");
        let first = slots.enter(&name, true);
        let second = slots.enter(&name, true);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(slots.enter(&name, true).unwrap_err(), Full { waiting: 2, seconds: 1 });
        slots.let_wait(2);
        let third = slots.enter(&name, true);
        assert!(third.is_ok() && slots.enter(&name, true).is_err());
        slots.let_wait(1);
        assert!(slots.enter(&name, true).is_err());
        drop((first, third));
        assert!(slots.enter(&name, true).is_ok());
    }

    #[test]
    fn a_flood_leaves_room_in_the_queue() {
        let slots = Slots::new(1, 99);
        let flood: Vec<_> = std::iter::from_fn(|| slots.enter(&tenant("flood"), false).ok()).collect();
        assert!((60..=70).contains(&flood.len()), "{}", flood.len());
        let more: Vec<_> = std::iter::from_fn(|| slots.enter(&tenant("more"), false).ok()).collect();
        assert!(more.len() >= 15 && slots.enter(&tenant("one"), false).is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_place_is_kept_for_a_tenant_that_was_here() {
        let slots = Slots::new(4, 10);
        let (flood, one) = (tenant("flood"), tenant("one"));
        drop(slots.acquire(&one).await);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut flooding: Vec<_> = (0..4).map(|_| Box::pin(slots.acquire(&flood))).collect();
        let mut running = Vec::new();
        for waiting in &mut flooding {
            if let std::task::Poll::Ready(slot) = waiting.as_mut().poll(&mut context) {
                running.push(slot);
            }
        }
        assert_eq!(running.iter().map(Slot::nice).collect::<Vec<_>>(), [0, 2, 4]);
        let mut first = Box::pin(slots.acquire(&one));
        let std::task::Poll::Ready(first) = first.as_mut().poll(&mut context) else { panic!("it waits") };
        assert_eq!(first.nice(), 0);
    }

    #[test]
    fn the_time_to_wait_follows_from_the_queue_and_the_runs() {
        let slots = Slots::new(2, 10);
        let name = tenant("a");
        let _queue: Vec<_> = (0..12).map(|_| slots.enter(&name, true).unwrap()).collect();
        for (taken, seconds) in [(10, 1), (500, 3), (1_000, 6), (60_000, 60)] {
            slots.state.lock().taken = Duration::from_millis(taken);
            assert_eq!(slots.enter(&name, true).unwrap_err(), Full { waiting: 12, seconds });
        }
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
