//! A zygote: locks itself down, loads one module, and forks a run process whenever it is told to.
//!
//! It is the first process of its pid namespace: when it ends, every run process in it ends.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use void_ipc::limits::{FORKS, SLOTS};
use void_ipc::message::{Exited, FromZygote, Refused, Setup, ToZygote, Unloadable};
use void_seccomp::filter::{self, Filter};
use void_seccomp::fork::{self, Side};
use void_seccomp::limits::Limits;
use void_seccomp::lockdown::Lockdown;
use void_seccomp::wire::Wire;
use void_seccomp::{memory, process};

use crate::engine::{self, Template};
use crate::run;

/// Private writable memory beyond the guest's: the engine, the heap that is prepared, the stack.
const OWN_BYTES: u64 = 128 << 20;

const PAGE: u64 = 64 * 1024;

enum Failure {
    Refused(Refused),
    Unloadable(Unloadable),
    Gone,
}

/// The zygote's whole life.
pub fn main() -> ExitCode {
    let mut wire = Wire::take();
    let failure = match live(&mut wire) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // The supervisor hears why; if it is gone, there is nobody to tell.
    let _ = match failure {
        Failure::Refused(refused) => wire.send(&FromZygote::Refused(refused)),
        Failure::Unloadable(unloadable) => wire.send(&FromZygote::Unloadable(unloadable)),
        Failure::Gone => Ok(()),
    };
    void_seccomp::exit(1)
}

fn live(wire: &mut Wire) -> Result<std::convert::Infallible, Failure> {
    let Ok(Some(ToZygote::Setup(setup))) = wire.receive::<ToZygote>() else { return Err(Failure::Gone) };
    let (template, filter, missing) = prepare(&setup)?;
    wire.send(&FromZygote::Ready { missing }).map_err(|_| Failure::Gone)?;
    serve(wire, template, &filter)
}

fn prepare(setup: &Setup) -> Result<(&'static mut Template, Filter, Vec<Refused>), Failure> {
    let code = void_seccomp::inherited(4);
    let warm_up = void_seccomp::inherited(5);
    process::set_name(c"void-zygote").map_err(|_| Failure::Gone)?;
    if let Some(cpu) = setup.cpu {
        // A processor that was taken from us since is no reason to stop: it only costs time.
        let _ = process::stay_on(cpu);
    }
    memory::prepare_heap();
    let mut lockdown = Lockdown::begin(setup.allow_weaker);
    lockdown
        .enter(Limits {
            data_bytes: OWN_BYTES + u64::from(setup.mem_pages_max) * PAGE,
            cpu_seconds: u64::from(setup.cpu_seconds_max),
            cpu_grace_seconds: 0,
            file_bytes: 0,
        })
        .map_err(Failure::Refused)?;
    let engine = engine::engine().map_err(Failure::Unloadable)?;
    warm(&engine, warm_up)?;
    let template = engine::load(&engine, code, setup.mem_pages_max).map_err(Failure::Unloadable)?;
    // For the life of the process: its files are closed below, which a destructor must not do again.
    let template = Box::leak(Box::new(template));
    let run_filter = Filter::of(&[filter::RUN])
        .map_err(|error| Failure::Unloadable(Unloadable::Engine(error.to_string())))?;
    fork::keep_only_the_socket().map_err(|_| Failure::Gone)?;
    let missing = lockdown
        .finish(&[template.code()], SLOTS as u64 + 1, &[filter::RUN, filter::ZYGOTE_EXTRA])
        .map_err(Failure::Refused)?;
    Ok((template, run_filter, missing))
}

/// Calls a module of our own, once to its end and once into a trap: the engine makes its signal stack and its unwinder's
/// tables at the first use, which must lie before the filter.
fn warm(engine: &wasmtime::Engine, code: OwnedFd) -> Result<(), Failure> {
    let mut template = engine::load(engine, code, 16).map_err(Failure::Unloadable)?;
    for export in ["add", "trap"] {
        if let Some(function) = template.instance.get_func(&mut template.store, export) {
            let count = function.ty(&template.store).params().len();
            let arguments = vec![wasmtime::Val::I32(1); count];
            let mut results = vec![wasmtime::Val::I32(0); function.ty(&template.store).results().len()];
            let called = function.call(&mut template.store, &arguments, &mut results);
            // The trap's text is made too, for making it may allocate and look things up for the first time.
            std::hint::black_box(called.map_err(|error| format!("{error:?}")).err());
        }
    }
    Ok(())
}

fn serve(
    wire: &mut Wire,
    template: &'static mut Template,
    filter: &Filter,
) -> Result<std::convert::Infallible, Failure> {
    let mut children = Children { pids: [0; SLOTS], ended: Vec::with_capacity(SLOTS) };
    loop {
        let order = wire.receive_with_descriptors::<ToZygote>();
        let Ok(Some((order, mut sockets))) = order else { return Err(Failure::Gone) };
        children.reap();
        let at_once = order == ToZygote::Reap;
        if let ToZygote::Fork { slots } = order {
            for slot in slots {
                let Some(socket) = sockets.pop() else { return Err(Failure::Gone) };
                match fork::fork(socket, &mut sockets, filter) {
                    // Descriptor 3 is the run's socket now, so the same wire serves it.
                    Ok(Side::Run) => run::serve(template, wire),
                    Ok(Side::Zygote(pid)) => children.note(slot, pid),
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or_default();
                        wire.send(&FromZygote::ForkFailed { slot, errno }).map_err(|_| Failure::Gone)?;
                    }
                }
            }
        }
        children.report(wire, at_once)?;
    }
}

/// The run processes of this zygote. They are reaped when an order comes: a signal for each end would cost a
/// wake-up, and the supervisor hears of an end by the run's own socket anyway.
struct Children {
    /// By slot, their numbers here; 0 is free.
    pids: [i32; SLOTS],
    ended: Vec<Exited>,
}

impl Children {
    fn note(&mut self, slot: u8, pid: i32) {
        if let Some(place) = self.pids.get_mut(usize::from(slot)) {
            *place = pid;
        }
    }

    fn reap(&mut self) {
        while let Some(reaped) = fork::reap() {
            let found = self.pids.iter().position(|pid| *pid == reaped.pid);
            let Some(slot) = found.and_then(|slot| u8::try_from(slot).ok()) else { continue };
            self.pids[usize::from(slot)] = 0;
            self.ended.push(Exited { slot, status: reaped.status, cpu_ns: reaped.cpu_ns });
        }
    }

    /// Ends as they should be are reported when there are enough of them to be worth a message.
    fn report(&mut self, wire: &mut Wire, at_once: bool) -> Result<(), Failure> {
        let due = at_once || self.ended.len() >= FORKS || self.ended.iter().any(|ended| ended.status != 0);
        if !due || self.ended.is_empty() {
            return Ok(());
        }
        let ended = std::mem::take(&mut self.ended);
        wire.send(&FromZygote::Exited(ended)).map_err(|_| Failure::Gone)
    }
}
