//! Driving one run process through its phases, and watching its budgets from outside.
//!
//! ```text
//! (leased: has said Ready) ─ Start ▶ running ─ Call ▶ awaiting ─ (answered) ▶ running … ─ Done ▶ (end)
//!                      └─ Output ▶ running
//! ```
//! What is legal in which phase stands in one `match`; anything else kills the process. CPU time is what
//! the kernel says of the process, never what the process says. Budgets and a cancel end a run in every phase.

mod output;
mod phase;

use std::time::{Duration, Instant};

use nix::sched::CpuSet;
use void_api::DenialNote;
use void_ipc::channel::ChannelError;
use void_ipc::limits::{BACKTRACE_FRAMES, DETAIL_BYTES, NAME_BYTES, PART_BYTES, VALUES};
use void_ipc::message::{Claim, FromRun, Reply, RunEnd, Start, ToRun};

use crate::gateway::{self, Answer, FLUSH_AFTER, Gateway, Step};
use crate::pool::{Exit, Lease};
use crate::runs::LiveRun;
pub(crate) use output::{MOST_BYTES, Output};
use phase::{Awaiting, Came, Phase, Stage};

/// A run that computes for longer than this may leave the processor of its connection.
const SHORT: Duration = Duration::from_millis(2);

/// When to look again whether one that makes gateway calls still does. Each look is in the way of a call.
const TALKS: Duration = Duration::from_millis(10);

/// How long the kernel may take to take a killed process apart before we go on without its last word.
const REAP_TIME: Duration = Duration::from_secs(2);

/// The shortest pause between two looks at the CPU clock.
const LOOK: Duration = Duration::from_millis(1);

/// A line of a backtrace: a function's name, and where in it.
const FRAME_LINE_BYTES: usize = NAME_BYTES + 64;

/// Messages after which others on the lane have their turn, however fast more come: each may be waited for on the spot.
const TURN: u32 = 8;

/// A run that left its processor and then makes so many calls comes back: each of them wakes the lane's.
const CALLS_TO_RETURN: u64 = 16;

/// What a run may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Wall time, from now.
    pub(crate) wall: Duration,
    /// How far it stands back from the runs of other tenants on the processor, 0 to 19.
    pub(crate) nice: u8,
    /// Bytes that are kept of each output stream.
    pub(crate) output: u32,
}

/// Processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// The lane's own.
    pub(crate) home: &'a CpuSet,
    /// All that the service may use.
    pub(crate) everywhere: &'a CpuSet,
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
    /// It made more gateway calls than it may.
    Calls,
    /// It wrote more than can be thrown away.
    Output,
    /// An answer of ours could not be sent.
    Unanswered,
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
    /// The part of it that the guest waited for its gateway calls.
    pub(crate) wait: Duration,
    /// Gateway calls made, the refused ones included.
    pub(crate) calls: u64,
    /// The most linear memory that the worker told of, 64 KiB pages.
    pub(crate) mem_pages: u32,
    /// Calls that were refused.
    pub(crate) denials: Vec<DenialNote>,
    /// What the guest wrote.
    pub(crate) output: Output,
}

/// Sends the request; from here on the guest may run.
///
/// # Errors
/// The process is gone, and nothing has begun.
pub(crate) fn begin(process: &Lease, start: Start) -> Result<Instant, ChannelError> {
    process.send(&ToRun::Start(start))?;
    Ok(Instant::now())
}

/// Follows a run that has begun to its end; `takes_long` is called when it is no short one.
pub(crate) async fn follow(
    process: &Lease,
    begun: Instant,
    budget: Budget,
    live: &LiveRun,
    places: Places<'_>,
    mut gateway: Gateway<'_>,
    takes_long: &dyn Fn(),
) -> Facts {
    if budget.nice > 0 {
        process.be_patient_elsewhere();
    }
    give_way(process, budget.nice);
    let mut phase = Phase::Running;
    let mut clock = Clock::new(begun, budget, process, places);
    let look = tokio::time::sleep_until((begun + SHORT.min(budget.cpu).min(budget.wall)).into());
    let flush = tokio::time::sleep_until(begun.into());
    tokio::pin!(look, flush);
    let (mut waited, mut mem_pages, mut turn) = (Duration::ZERO, 0, 0);
    let (mut flushing, mut output, mut end) = (false, Output::new(budget.output), None);
    let verdict = loop {
        tokio::select! {
            biased;
            message = process.receive() => {
                match (&phase, message) {
                    (Phase::Running, Ok(FromRun::Call { call, mem_pages: pages })) => {
                        let since = Instant::now();
                        mem_pages = pages.max(mem_pages);
                        let next = match gateway::ask(call) {
                            Err(nanoseconds) => Ok(phase::sleeping(since, nanoseconds)),
                            Ok(call) => match gateway.take(call) {
                                Step::End => Err(Some(Verdict::Calls)),
                                Step::Answer(answer) => phase::answer(process, since, answer),
                                Step::Wait(pending) => {
                                    Ok(Phase::Awaiting(Awaiting { since, stage: Stage::Performing(pending) }))
                                }
                            },
                        };
                        match next {
                            Ok(next) => phase = next,
                            Err(verdict) => break verdict,
                        }
                        if phase.since().is_none() {
                            waited += since.elapsed();
                        }
                        clock.called();
                    }
                    (Phase::Running, Ok(FromRun::Output { stream, bytes })) => {
                        if bytes.len() > PART_BYTES {
                            break Some(Verdict::Protocol);
                        }
                        if !output.take(stream, &bytes) {
                            break Some(Verdict::Output);
                        }
                    }
                    (Phase::Running, Ok(FromRun::Done(claimed))) => {
                        if !could_be(&claimed.claim) {
                            break Some(Verdict::Protocol);
                        }
                        end = Some(claimed);
                        break None;
                    }
                    (Phase::Running | Phase::Awaiting(_), Err(ChannelError::Closed)) => break None,
                    (Phase::Running, Ok(FromRun::Ready))
                    | (
                        Phase::Awaiting(_),
                        Ok(FromRun::Ready | FromRun::Call { .. } | FromRun::Output { .. } | FromRun::Done(_)),
                    )
                    | (
                        Phase::Running | Phase::Awaiting(_),
                        Err(ChannelError::Io(_) | ChannelError::Codec(_) | ChannelError::Descriptors(_)),
                    ) => break Some(Verdict::Protocol),
                }
                turn += 1;
                if turn % TURN == 0 {
                    // Timers and other connections have their say only where this task stops for a moment.
                    tokio::task::yield_now().await;
                }
            }
            came = phase.awaited() => {
                let since = phase.since().unwrap_or(begun);
                let next = match came {
                    Came::Performed(done) => phase::answer(process, since, gateway.settle(done)),
                    Came::Slept => phase::answer(process, since, Answer::plain(Reply::Done)),
                    Came::Answered(Ok(())) => Ok(Phase::Running),
                    Came::Answered(Err(error)) => Err(phase::unsent(&error)),
                };
                match next {
                    Ok(next) => phase = next,
                    Err(verdict) => break verdict,
                }
                if phase.since().is_none() {
                    waited += since.elapsed();
                    if let Some(next) = clock.woken() {
                        look.as_mut().reset(next.into());
                    }
                }
            }
            () = live.cancelled() => break Some(Verdict::Cancelled),
            () = &mut look => match clock.look(phase.since().is_some()) {
                Ok(next) => {
                    takes_long();
                    look.as_mut().reset(next.into());
                }
                Err(verdict) => break Some(verdict),
            },
            () = &mut flush, if flushing => {
                flushing = false;
                gateway.flush();
            }
        }
        if !flushing && gateway.has_events() {
            flushing = true;
            flush.as_mut().reset(tokio::time::Instant::now() + FLUSH_AFTER);
        }
    };
    waited += phase.since().map(|since| since.elapsed()).unwrap_or_default();
    // What is awaited is given up here: a fetch is broken off.
    if let Phase::Awaiting(Awaiting { stage: Stage::Performing(pending), .. }) = phase {
        gateway.give_up(pending);
    }
    // After a trap nobody knows in what state it is, and one that stands back on the processor cannot be called forth again.
    if let Some(RunEnd { claim: Claim::Returned(_) | Claim::Exited(_), .. }) = &end
        && budget.nice == 0
    {
        process.served();
    }
    let (exit, cpu, wall) = match &end {
        // The process waits for its socket's end, so its clock still is to be read.
        Some(_) => (None, process.cpu_time().unwrap_or_default(), begun.elapsed()),
        None => take_apart(process, verdict.is_some(), begun).await,
    };
    let calls = gateway.calls();
    let denials = gateway.into_denials();
    Facts { verdict, end, exit, cpu, wall, wait: waited.min(wall), calls, mem_pages, denials, output }
}

/// When to look at a run's budgets next, and on which processor it is.
struct Clock<'a> {
    begun: Instant,
    budget: Budget,
    process: &'a Lease,
    places: Places<'a>,
    at_home: bool,
    /// Calls since the last look, or since it left its processor.
    calls: u64,
    /// The next look was put off because the guest waited.
    put_off: bool,
}

impl<'a> Clock<'a> {
    fn new(begun: Instant, budget: Budget, process: &'a Lease, places: Places<'a>) -> Clock<'a> {
        if process.is_away() {
            process.stay_on(places.home, false);
        }
        Clock { begun, budget, process, places, at_home: true, calls: 0, put_off: false }
    }

    /// Looks; when to look again.
    fn look(&mut self, waits: bool) -> Result<Instant, Verdict> {
        let wall = self.begun.elapsed();
        // What the process used before its order is not the guest's, and one thread uses no more than goes by.
        let cpu = self.process.cpu_time().unwrap_or_default().min(wall);
        if cpu >= self.budget.cpu {
            return Err(Verdict::Cpu);
        }
        if wall >= self.budget.wall {
            return Err(Verdict::Wall);
        }
        self.put_off = waits;
        let mut next = self.budget.wall - wall;
        if !waits {
            if self.at_home && wall >= SHORT {
                // One that talks to the gateway all the time has no use for another processor than the lane's.
                if self.calls == 0 {
                    self.at_home = false;
                    self.process.stay_on(self.places.everywhere, true);
                } else {
                    next = next.min(TALKS);
                }
                self.calls = 0;
            }
            // One thread cannot use CPU time faster than the clock runs.
            next = next.min(self.budget.cpu - cpu);
        }
        Ok(Instant::now() + next.max(LOOK))
    }

    /// The guest goes on; when to look, where that was put off.
    fn woken(&mut self) -> Option<Instant> {
        if !std::mem::take(&mut self.put_off) {
            return None;
        }
        let cpu = self.process.cpu_time().unwrap_or_default();
        let left =
            self.budget.cpu.saturating_sub(cpu).min(self.budget.wall.saturating_sub(self.begun.elapsed()));
        Some(Instant::now() + left.max(LOOK))
    }

    /// The guest made a call.
    fn called(&mut self) {
        self.calls += 1;
        if !self.at_home && self.calls >= CALLS_TO_RETURN {
            self.at_home = true;
            self.calls = 0;
            self.process.stay_on(self.places.home, false);
        }
    }
}

/// Whether a sound worker could claim this: it cuts what it says.
fn could_be(claim: &Claim) -> bool {
    match claim {
        Claim::Returned(values) => values.len() <= VALUES,
        Claim::Trapped(trap) => {
            trap.message.len() <= DETAIL_BYTES
                && trap.backtrace.len() <= BACKTRACE_FRAMES
                && trap.backtrace.iter().all(|line| line.len() <= FRAME_LINE_BYTES)
        }
        Claim::Exited(_) | Claim::TooLarge { .. } | Claim::NoSuchExport | Claim::TypeMismatch => true,
    }
}

fn give_way(process: &Lease, nice: u8) {
    if nice > 0
        && let Some(pid) = process.pid()
    {
        // It may be gone already; then it is in nobody's way.
        let _ = void_seccomp::process::give_way(pid, nice);
    }
}

/// Ends the process, and asks the kernel how it ended, where that is not our own doing: its exit, CPU time and wall time.
/// Both times are read at one moment; whatever it does until it is dead is nobody's run any more.
async fn take_apart(process: &Lease, by_us: bool, begun: Instant) -> (Option<Exit>, Duration, Duration) {
    let seen = process.cpu_time().unwrap_or_default();
    let wall = begun.elapsed();
    if by_us {
        // Nobody waits for its zygote to say so: its place is free when it is dead.
        if tokio::time::timeout(REAP_TIME, process.kill_and_wait()).await.is_err() {
            tracing::error!("a run process was killed and does not die");
        }
        return (None, seen, wall);
    }
    process.kill();
    let exit = tokio::time::timeout(REAP_TIME, process.exited()).await.ok().flatten();
    // The kernel's account of its whole life, where there is one; else what was seen of it last.
    let cpu = exit.map_or(seen, |exit| process.of_this_run(exit.cpu).max(seen));
    (exit, cpu, wall)
}
