//! A zygote: locks itself down, loads one module, and forks a run process whenever it is told to.
//!
//! It is the first process of its pid namespace: when it ends, every run process in it ends.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use void_ipc::limits::SLOTS;
use void_ipc::message::{FromZygote, Refused, Setup, ToZygote, Unloadable};
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

/// Which process serves which slot, by its number here; 0 is free.
static SLOT_PIDS: [AtomicI32; SLOTS] = [const { AtomicI32::new(0) }; SLOTS];
/// Set while a slot's process is being forked: its end must not be reaped before it is noted.
static FORKING: AtomicBool = AtomicBool::new(false);

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
    fork::on_child_end(child_ended).map_err(|_| Failure::Gone)?;
    fork::keep_only_the_socket().map_err(|_| Failure::Gone)?;
    let missing = lockdown
        .finish(&[template.code()], SLOTS as u64 + 1, &[filter::RUN, filter::ZYGOTE_EXTRA])
        .map_err(Failure::Refused)?;
    Ok((template, run_filter, missing))
}

/// Calls a module of our own, once to its end and once into a trap: the engine makes its signal stack and its unwinder's
/// tables at the first use, which must lie before the filter.
fn warm(engine: &wasmtime::Engine, code: std::os::fd::OwnedFd) -> Result<(), Failure> {
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
    loop {
        let order = wire.receive_with_descriptors::<ToZygote>();
        let Ok(Some((ToZygote::Fork { slot }, mut descriptors))) = order else { return Err(Failure::Gone) };
        let (Some(socket), Some(pid)) = (descriptors.pop(), SLOT_PIDS.get(usize::from(slot))) else {
            return Err(Failure::Gone);
        };
        FORKING.store(true, Ordering::SeqCst);
        let forked = fork::fork(socket, filter);
        match forked {
            // Descriptor 3 is the run's socket now, so the same wire serves it.
            Ok(Side::Run) => run::serve(template, wire),
            Ok(Side::Zygote(number)) => {
                pid.store(number, Ordering::SeqCst);
                FORKING.store(false, Ordering::SeqCst);
                reap();
            }
            Err(error) => {
                FORKING.store(false, Ordering::SeqCst);
                let errno = error.raw_os_error().unwrap_or_default();
                wire.send(&FromZygote::ForkFailed { slot, errno }).map_err(|_| Failure::Gone)?;
            }
        }
    }
}

extern "C" fn child_ended(_signal: i32) {
    if !FORKING.load(Ordering::SeqCst) {
        fork::in_handler(reap);
    }
}

/// Reaps all that have ended and reports them. Runs in the signal's handler and after each fork; each child is
/// reaped by whichever comes first.
fn reap() {
    while let Some(reaped) = fork::reap() {
        let found = SLOT_PIDS
            .iter()
            .position(|pid| pid.compare_exchange(reaped.pid, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok());
        let Some(slot) = found.and_then(|slot| u8::try_from(slot).ok()) else { continue };
        let report = FromZygote::Exited {
            slot,
            status: reaped.status,
            cpu_ns: reaped.cpu_ns,
            max_rss_kib: reaped.max_rss_kib,
        };
        let mut frame = [0; 64];
        if let Ok(length) = void_ipc::encode_into(&report, &mut frame) {
            fork::write_packet(&frame[..length]);
        }
    }
}
