//! Driving one run process through its phases, and watching its budgets from outside.
//!
//! ```text
//! waiting ─ Ready ▶ running ─ Done ▶ (end)
//! ```
//! What is legal in which phase stands in one `match`; anything else kills the process. CPU time is what
//! the kernel says of the process, never what the process says.

use std::time::{Duration, Instant};

use void_ipc::channel::ChannelError;
use void_ipc::message::{FromRun, RunEnd, Start};

use crate::pool::{Exit, Lease};
use crate::runs::LiveRun;

/// A run that computes for longer than this may leave the processor of its connection.
const SHORT: Duration = Duration::from_millis(2);

/// How long the kernel may take to take a killed process apart before we go on without its last word.
const REAP_TIME: Duration = Duration::from_secs(2);

/// The shortest pause between two looks at the CPU clock.
const LOOK: Duration = Duration::from_millis(1);

/// What a run may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Wall time, from now.
    pub(crate) wall: Duration,
    /// How far it stands back from the runs of other tenants on the processor, 0 to 19.
    pub(crate) nice: u8,
}

/// Why the supervisor ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It used up its CPU time.
    Cpu,
    /// It used up its wall time.
    Wall,
    /// Somebody asked for its end.
    Cancelled,
    /// Its process sent what is not legal in its phase, or no message at all.
    Protocol,
}

/// What is known of a run's end. The outcome is concluded from it elsewhere.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The supervisor's own act, where there was one. It comes first.
    pub(crate) verdict: Option<Verdict>,
    /// What the worker claims.
    pub(crate) end: Option<RunEnd>,
    /// How the kernel says the process ended, where it ended before its claim.
    pub(crate) exit: Option<Exit>,
    /// CPU time, as the kernel says.
    pub(crate) cpu: Duration,
    /// Wall time.
    pub(crate) wall: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waiting,
    Running,
}

/// Sends the request; from here on the guest may run.
///
/// # Errors
/// The process is gone, and nothing has begun.
pub(crate) fn begin(process: &Lease, start: Start) -> Result<Instant, ChannelError> {
    process.send(start)?;
    Ok(Instant::now())
}

/// Follows a run that has begun to its end.
pub(crate) async fn follow(
    process: &Lease,
    begun: Instant,
    budget: Budget,
    live: &LiveRun,
    everywhere: &nix::sched::CpuSet,
) -> Facts {
    // It was forked ahead: its first word usually lies there already.
    let mut phase = Phase::Waiting;
    let mut first = process.receive_now();
    let look = tokio::time::sleep_until((begun + SHORT.min(budget.cpu).min(budget.wall)).into());
    tokio::pin!(look);
    let mut short = true;
    let verdict = loop {
        tokio::select! {
            biased;
            message = next(process, first.take()) => match (phase, message) {
                (Phase::Waiting, Ok(FromRun::Ready)) => {
                    phase = Phase::Running;
                    give_way(process, budget.nice);
                }
                (Phase::Running, Ok(FromRun::Done(end))) => {
                    // The process waits for its socket's end, so its clock still is to be read.
                    let cpu = process.cpu_time().unwrap_or_default();
                    return Facts { verdict: None, end: Some(end), exit: None, cpu, wall: begun.elapsed() };
                }
                (Phase::Waiting | Phase::Running, Err(ChannelError::Closed)) => break None,
                (Phase::Waiting, Ok(FromRun::Done(_)))
                | (Phase::Running, Ok(FromRun::Ready))
                | (Phase::Waiting | Phase::Running, Err(_)) => break Some(Verdict::Protocol),
            },
            () = live.cancelled() => break Some(Verdict::Cancelled),
            () = &mut look => {
                let wall = begun.elapsed();
                let cpu = process.cpu_time().unwrap_or_default();
                if cpu >= budget.cpu {
                    break Some(Verdict::Cpu);
                }
                if wall >= budget.wall {
                    break Some(Verdict::Wall);
                }
                if short && wall >= SHORT {
                    short = false;
                    process.let_move(everywhere);
                }
                // One thread cannot use CPU time faster than the clock runs.
                let next = (budget.cpu - cpu).min(budget.wall - wall).max(LOOK);
                look.as_mut().reset(tokio::time::Instant::now() + next);
            }
        }
    };
    end(process, verdict, begun).await
}

fn give_way(process: &Lease, nice: u8) {
    if nice > 0
        && let Some(pid) = process.pid()
    {
        // It may be gone already; then it is in nobody's way.
        let _ = void_seccomp::process::give_way(pid, nice);
    }
}

async fn next(
    process: &Lease,
    first: Option<Result<FromRun, ChannelError>>,
) -> Result<FromRun, ChannelError> {
    match first {
        Some(received) => received,
        None => process.receive().await,
    }
}

async fn end(process: &Lease, verdict: Option<Verdict>, begun: Instant) -> Facts {
    let seen = process.cpu_time().unwrap_or_default();
    let wall = begun.elapsed();
    process.kill();
    let exit = tokio::time::timeout(REAP_TIME, process.exited()).await.ok().flatten();
    // The kernel's account of its whole life, where there is one; else what was seen of it last.
    let cpu = exit.map_or(seen, |exit| exit.cpu.max(seen));
    Facts { verdict, end: None, exit, cpu, wall }
}
