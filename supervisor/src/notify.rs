//! What the service tells systemd (`sd_notify(3)`, `Type=notify-reload`). Without systemd every call does nothing.
//!
//! The variables stay in the environment: no process that this one starts inherits it.

use std::time::Duration;

use sd_notify::NotifyState;

/// A run would be taken: the start, or a reload, is complete.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Status(status), NotifyState::Ready]);
}

/// A reload has begun; [`ready`] ends it. The time tells systemd that this reload is the one it asked for.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd was not told of the reload: the clock cannot be read"),
    }
}

/// The service drains.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// The service lives. Due at least once in each [`watchdog_interval`].
pub(crate) fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear [`watchdog`], halved so that a late one is not yet too late; `None` where it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let mut usec = 0;
    let wanted = sd_notify::watchdog_enabled(false, &mut usec) && usec > 0;
    wanted.then(|| Duration::from_micros(usec) / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd could not be told of the service's state");
    }
}
