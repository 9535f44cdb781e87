//! A zygote: locks itself down, loads one module, and forks a run process whenever it is told to.
//!
//! It is the first process of its pid namespace: when it ends, every run process in it ends. Where it was refused one, each
//! run process asks the kernel for that itself.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use void_ipc::limits::{FORKS, SLOTS};
use void_ipc::message::{Exited, FromZygote, Layer, Refused, Setup, ToZygote, Unloadable};
use void_seccomp::filter::{self, Filter};
use void_seccomp::fork::{self, Side};
use void_seccomp::leftovers::Leftovers;
use void_seccomp::limits::Limits;
use void_seccomp::lockdown::Lockdown;
use void_seccomp::wire::Wire;
use void_seccomp::{Secret, means, memory, process};

use crate::engine::{self, Template};
use crate::line::Line;
use crate::{imports, run};

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
    let begun = Leftovers::find().and_then(|leftovers| memory::on_own_stack(Box::new(leftovers), begin));
    match begun {
        Ok(never) => match never {},
        // The supervisor sees that it has died.
        Err(_) => ExitCode::from(71),
    }
}

extern "C" fn begin(leftovers: Box<Leftovers>) -> ! {
    let line = Line::new(Wire::take(crate::HEAP.room()));
    let failure = match live(&line, *leftovers) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // The supervisor hears why; if it is gone, there is nobody to tell.
    let _ = match failure {
        Failure::Refused(refused) => line.send(&FromZygote::Refused(refused)),
        Failure::Unloadable(unloadable) => line.send(&FromZygote::Unloadable(unloadable)),
        Failure::Gone => Ok(()),
    };
    void_seccomp::exit(1)
}

fn live(line: &Line, leftovers: Leftovers) -> Result<std::convert::Infallible, Failure> {
    let Ok(Some(ToZygote::Setup(setup))) = line.receive::<ToZygote>() else { return Err(Failure::Gone) };
    let Prepared { template, reuse, secret, missing } = prepare(&setup, line, leftovers)?;
    line.send(&FromZygote::Ready { missing, reuse }).map_err(|_| Failure::Gone)?;
    serve(line, template, reuse, secret)
}

struct Prepared {
    template: &'static mut Template,
    /// Its run processes serve one run after the other.
    reuse: bool,
    secret: Secret,
    missing: Vec<Refused>,
}

fn prepare(setup: &Setup, line: &Line, leftovers: Leftovers) -> Result<Prepared, Failure> {
    let code = void_seccomp::inherited(4);
    let warm_up = void_seccomp::inherited(5);
    process::set_name(c"void-zygote").map_err(|_| Failure::Gone)?;
    if let Some(cpu) = setup.cpu {
        // A processor that was taken from us since is no reason to stop: it only costs time.
        let _ = process::stay_on(cpu);
    }
    // Code on small pages is as good and slower.
    let _ = memory::hold_own_code_ready();
    imports::prepare_random();
    let mut lockdown = Lockdown::begin(setup.allow_weaker, means::left_out(std::env::args().skip(1)))
        .map_err(Failure::Refused)?;
    lockdown
        .enter(Limits {
            data_bytes: OWN_BYTES
                + u64::from(setup.mem_pages_max) * PAGE
                + if setup.reuse { engine::PLACES_BYTES } else { 0 },
            cpu_seconds: u64::from(setup.cpu_seconds_max),
            cpu_grace_seconds: 0,
            file_bytes: 0,
        })
        .map_err(Failure::Refused)?;
    let (template, reuse) = load(setup, code, warm_up, line)?;
    // For the life of the process: its files are closed below, which a destructor must not do again.
    let template = Box::leak(Box::new(template));
    // A large allocation has the allocator put its heap in order. In a run that would copy a page here and there.
    line.prepare_output();
    fork::keep_only_the_socket().map_err(|_| Failure::Gone)?;
    // Plain modules have no clock. What stays costs each fork a little.
    let _ = leftovers.give_back(template.has_wasi());
    let mut secret = Secret::new().map_err(|_| Failure::Gone)?;
    let mut own = filter::ZYGOTE.to_vec();
    if lockdown.misses(Layer::Namespaces) {
        own.extend(filter::TIE);
        secret.tie_children();
    }
    let mut run = filter::RUN.to_vec();
    if template.has_wasi() {
        run.extend(filter::WASI);
    }
    if reuse {
        run.extend(filter::REUSE);
    }
    let missing = Filter::guarded(&run, &own, &secret)
        .map_err(Refused::from)
        .and_then(|filter| lockdown.finish(&[template.code()], SLOTS as u64 + 1, filter))
        .map_err(Failure::Refused)?;
    Ok(Prepared { template, reuse, secret, missing })
}

/// Loads the module; whether in such a way that run processes can be used again. One that has more memories or tables than
/// there are places for is loaded as if nobody had asked for that.
fn load(setup: &Setup, code: OwnedFd, warm_up: OwnedFd, line: &Line) -> Result<(Template, bool), Failure> {
    let gone = |_| Failure::Gone;
    if setup.reuse {
        let engine = engine::engine(true).map_err(Failure::Unloadable)?;
        warm(&engine, warm_up.try_clone().map_err(gone)?, line)?;
        let code = code.try_clone().map_err(gone)?;
        if let Ok(template) = engine::load(&engine, code, setup.mem_pages_max, line, || {}) {
            return Ok((template, true));
        }
    }
    let engine = engine::engine(false).map_err(Failure::Unloadable)?;
    warm(&engine, warm_up, line)?;
    // What one run allocates lies close together. Of a process that serves many it would fill up.
    let template = engine::load(&engine, code, setup.mem_pages_max, line, || crate::HEAP.begin());
    Ok((template.map_err(Failure::Unloadable)?, false))
}

/// Calls a module of our own, once to its end and once into a trap: the engine makes its signal stack and its unwinder's
/// tables at the first use, which must lie before the filter.
fn warm(engine: &wasmtime::Engine, code: OwnedFd, line: &Line) -> Result<(), Failure> {
    let mut template = engine::load(engine, code, 16, line, || {}).map_err(Failure::Unloadable)?;
    for export in ["add", "trap", "wasi"] {
        if let Some(function) = template.instance.get_func(&mut template.store, export) {
            let count = function.ty(&template.store).params().len();
            let arguments = vec![wasmtime::Val::I32(1); count];
            let mut results = vec![wasmtime::Val::I32(0); function.ty(&template.store).results().len()];
            let called = function.call(&mut template.store, &arguments, &mut results);
            // The trap's text is made too, for making it may allocate and look things up for the first time.
            std::hint::black_box(called.map_err(|error| format!("{error:?}")).err());
        }
    }
    line.forget_output();
    Ok(())
}

fn serve(
    line: &Line,
    template: &'static mut Template,
    reuse: bool,
    secret: Secret,
) -> Result<std::convert::Infallible, Failure> {
    let mut children = Children { secret, pids: [0; SLOTS], ended: Vec::with_capacity(SLOTS) };
    let mut sockets = Vec::with_capacity(FORKS);
    loop {
        let order = line.receive_with_descriptors::<ToZygote>(&children.secret, &mut sockets);
        let Ok(Some(order)) = order else { return Err(Failure::Gone) };
        children.reap();
        let at_once = order == ToZygote::Reap;
        if let ToZygote::Fork { slots } = order {
            for slot in slots {
                let Some(socket) = sockets.pop() else { return Err(Failure::Gone) };
                match fork::fork(&children.secret, socket) {
                    // Descriptor 3 is the run's socket now, so the same line serves it.
                    Ok(Side::Run) => run::serve(template, line, reuse),
                    Ok(Side::Zygote(pid)) => children.note(slot, pid),
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or_default();
                        line.send(&FromZygote::ForkFailed { slot, errno }).map_err(|_| Failure::Gone)?;
                    }
                }
            }
            fork::close_received(&children.secret).map_err(|_| Failure::Gone)?;
        }
        children.report(line, at_once)?;
    }
}

/// The run processes of this zygote. They are reaped when an order comes: a signal for each end would cost a
/// wake-up, and the supervisor hears of an end by the run's own socket anyway.
struct Children {
    /// What the kernel wants to see for all that a run process may not do.
    secret: Secret,
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
        while let Some(reaped) = fork::reap(&self.secret) {
            let found = self.pids.iter().position(|pid| *pid == reaped.pid);
            let Some(slot) = found.and_then(|slot| u8::try_from(slot).ok()) else { continue };
            self.pids[usize::from(slot)] = 0;
            self.ended.push(Exited { slot, status: reaped.status, cpu_ns: reaped.cpu_ns });
        }
    }

    /// Ends as they should be are reported when there are enough of them to be worth a message.
    fn report(&mut self, line: &Line, at_once: bool) -> Result<(), Failure> {
        let due = at_once || self.ended.len() >= FORKS || self.ended.iter().any(|ended| ended.status != 0);
        if !due || self.ended.is_empty() {
            return Ok(());
        }
        let ended = std::mem::take(&mut self.ended);
        line.send(&FromZygote::Exited(ended)).map_err(|_| Failure::Gone)
    }
}
