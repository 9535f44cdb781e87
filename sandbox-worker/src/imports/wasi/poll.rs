//! `poll_oneoff`: the one way in which a WASI guest waits. Only clocks are waited for; a guest's streams are ready
//! whenever it looks.
//!
//! Layouts as in the witx document of preview 1: a subscription has 48 bytes, an event 32.

use void_ipc::message::Call;
use wasmtime::Caller;

use super::clocks::Clocks;
use crate::engine::RunState;
use crate::imports::{Answer, Fault, memory};

const NAME: &str = "wasi_snapshot_preview1.poll_oneoff";
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;

/// Subscriptions of one call. A guest has three streams, and more clocks than this nobody waits for.
const SUBSCRIPTIONS_MAX: usize = 1024;

const SUCCESS: u16 = 0;
const BADF: u16 = 8;
const INTR: u16 = 27;
const INVAL: u16 = 28;

/// One thing that is waited for.
#[derive(Debug, Clone, Copy)]
struct Subscription {
    userdata: u64,
    /// Which kind of event: 0 clock, 1 reading, 2 writing.
    kind: u8,
    /// How the event ends, and in how many nanoseconds it is due.
    due: Result<u64, u16>,
}

pub(super) fn poll_oneoff(
    mut caller: Caller<'_, RunState>,
    subscriptions: i32,
    events: i32,
    count: i32,
    happened: i32,
) -> wasmtime::Result<i32> {
    let memory = memory::exported(&caller, NAME)?;
    let (bytes, state) = memory.data_and_store_mut(&mut caller);
    let number = count.cast_unsigned() as usize;
    if number == 0 || number > SUBSCRIPTIONS_MAX {
        return Ok(i32::from(INVAL));
    }
    // At most 48 KiB: the products fit.
    let size = |each: usize| i32::try_from(number * each).unwrap_or(i32::MAX);
    let from = memory::span(bytes, NAME, "in", subscriptions, size(SUBSCRIPTION_BYTES))?;
    let to = memory::span(bytes, NAME, "out", events, size(EVENT_BYTES))?;
    let counted = memory::span(bytes, NAME, "nevents", happened, 4)?;

    let clocks = state.wasi().clocks;
    let mut asked = Vec::with_capacity(number);
    for subscription in bytes[from].chunks_exact(SUBSCRIPTION_BYTES) {
        asked.push(read(subscription, clocks)?);
    }
    let wait = asked.iter().map(|subscription| subscription.due.unwrap_or(0)).min().unwrap_or(0);
    if wait > 0 && !matches!(state.call(Call::Sleep { nanoseconds: wait }), Answer::Done) {
        return Ok(i32::from(INTR));
    }
    let mut written = 0u32;
    let due = asked.iter().filter(|subscription| subscription.due.unwrap_or(0) <= wait);
    for (subscription, event) in due.zip(bytes[to].chunks_exact_mut(EVENT_BYTES)) {
        write(subscription, event);
        written += 1;
    }
    bytes[counted].copy_from_slice(&written.to_le_bytes());
    Ok(i32::from(SUCCESS))
}

/// # Errors
/// A number for which WASI has no name: the guest cannot go on, as in the functions that are not ours.
fn read(bytes: &[u8], clocks: Clocks) -> Result<Subscription, Fault> {
    let nameless = |what: &str, number: u32| Fault(format!("{NAME} was called with {what} {number}"));
    let (userdata, kind) = (long(bytes, 0), bytes[8]);
    let due = match (kind, int(bytes, 16)) {
        (0, clock) => {
            let now = match clock {
                0 => Ok(clocks.wall_ns()),
                1 => Ok(clocks.monotonic_ns()),
                // The CPU time clocks of preview 1: not to be waited for, as elsewhere.
                2 | 3 => Err(INVAL),
                _ => return Err(nameless("a clock", clock)),
            };
            let (timeout, flags) = (long(bytes, 24), u16::from_le_bytes([bytes[40], bytes[41]]));
            let absolute = match flags {
                0 | 1 => flags == 1,
                _ => return Err(nameless("the flags", u32::from(flags))),
            };
            now.map(|now| if absolute { timeout.saturating_sub(now) } else { timeout })
        }
        // Ready whether the guest has closed it or not: reading and writing say so themselves.
        (1, 0) | (2, 1 | 2) => Ok(0),
        (1 | 2, _) => Err(BADF),
        _ => return Err(nameless("a kind of event", u32::from(kind))),
    };
    Ok(Subscription { userdata, kind, due })
}

fn write(subscription: &Subscription, event: &mut [u8]) {
    event.fill(0);
    event[..8].copy_from_slice(&subscription.userdata.to_le_bytes());
    let error = subscription.due.err().unwrap_or(SUCCESS);
    event[8..10].copy_from_slice(&error.to_le_bytes());
    event[10] = subscription.kind;
    if subscription.kind != 0 && error == SUCCESS {
        // At least one byte can be read or written, or the end be seen.
        event[16..24].copy_from_slice(&1u64.to_le_bytes());
    }
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default()
}

fn int(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default()
}
