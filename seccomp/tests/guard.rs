//! What a run process may do is what its table says, and every rule of it is needed. Each attempt is made by a real
//! process behind the real filter, forked by a real zygote's code.
//!
//! ```text
//! this test ─ starts itself ▶ a "zygote": takes the filter on, receives a socket, forks ▶ a "run": attempts one thing
//! ```
//! The zygote's exit code says how the run ended: its own exit code, or 100 and the signal that killed it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::ffi::c_long;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use void_seccomp::filter::{Filter, RUN, Rule, TIE, WASI, ZYGOTE};
use void_seccomp::fork::{self, Side};
use void_seccomp::wire::Wire;
use void_seccomp::{Secret, exit};

/// Kernel syscalls that the kernel itself lets through every filter (uretprobe and uprobe, Linux 6.18).
const UNFILTERED: [i64; 2] = [335, 336];
const LAST: i64 = 480;
/// How a zygote reports a run that was killed for a kernel syscall.
const KILLED: i32 = 100 + 31;
static TRAPS: AtomicU32 = AtomicU32::new(0);
const MARK: &[u8] = b"still here";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("zygote") => zygote(&arguments[2], &arguments[3]),
        // The test runner's own questions.
        Some("--list") => println!("guard: test"),
        _ => {
            for (name, test) in TESTS {
                println!("guard: {name}");
                test();
            }
        }
    }
}

const TESTS: [(&str, fn()); 8] = [
    ("a run that keeps to its table lives", a_run_that_keeps_to_its_table_lives),
    ("every other kernel syscall ends a run", every_other_kernel_syscall_ends_a_run),
    ("wrong arguments end a run", wrong_arguments_end_a_run),
    ("what the zygote may do ends a run", what_the_zygote_may_do_ends_a_run),
    ("a guest with WASI has two clocks", a_guest_with_wasi_has_two_clocks),
    ("every rule is needed", every_rule_is_needed),
    ("a run that is tied dies with its zygote", a_run_that_is_tied_dies_with_its_zygote),
    ("a run's memory does not hold the secret", a_runs_memory_does_not_hold_the_secret),
];

fn a_run_that_keeps_to_its_table_lives() {
    let ended = attempt("life", "");
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.status);
    assert_eq!(ended.heard, MARK);
}

fn every_other_kernel_syscall_ends_a_run() {
    for number in (0..LAST).filter(|number| !UNFILTERED.contains(number)) {
        if RUN.iter().any(|rule| rule.syscall == number) {
            continue;
        }
        let ended = attempt(&format!("call {number} 0 0 0 0 0 0"), "");
        assert_eq!(ended.status.code(), Some(KILLED), "kernel syscall {number}");
        assert_eq!(ended.heard, b"", "kernel syscall {number}");
    }
    // The other two tables of the same processor: x32 has a bit in the number.
    assert_eq!(
        attempt(&format!("call {} 3 0 0 0 0 0", 0x4000_0000), "").status.code(),
        Some(KILLED),
        "x32 read"
    );
}

fn wrong_arguments_end_a_run() {
    for wrong in [
        format!("call {} 0 0 0 0 0 0", libc::SYS_read),
        format!("call {} 1 0 0 0 0 0", libc::SYS_write),
        format!("call {} 0 4096 {} 0 0 0", libc::SYS_mprotect, libc::PROT_READ | libc::PROT_EXEC),
        format!("call {} 0 4096 {} 0 0 0", libc::SYS_mprotect, 7),
        format!("call {} 0 4096 {} 0 0 0", libc::SYS_mprotect, 3u64 | 1 << 32),
    ] {
        assert_eq!(attempt(&wrong, "").status.code(), Some(KILLED), "{wrong}");
    }
}

/// The zygote's own rules, with their very arguments: without the secret, with zeroes, and with guesses.
fn what_the_zygote_may_do_ends_a_run() {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    for (rule, tied) in ZYGOTE.iter().map(|rule| (rule, "")).chain(TIE.iter().map(|rule| (rule, "tied "))) {
        for guess in [0, u64::from_ne_bytes(random), u64::MAX, 0x7a3c_95e1_d04b_268f] {
            let mut arguments = [0; 6];
            for (position, _, value) in rule.arguments {
                arguments[usize::from(*position)] = *value;
            }
            arguments[5] = guess;
            let text: Vec<String> = arguments.iter().map(u64::to_string).collect();
            let ended = attempt(&format!("{tied}call {} {}", rule.syscall, text.join(" ")), "");
            assert_eq!(ended.status.code(), Some(KILLED), "{} with {guess:#x}", rule.name);
        }
    }
    // The zygote's own code in the run's hands finds a wiped page.
    for own in ["own fork", "own reap", "own close", "own receive"] {
        assert_eq!(attempt(own, "").status.code(), Some(KILLED), "{own}");
    }
}

fn a_guest_with_wasi_has_two_clocks() {
    for (clock, lives) in [(0, true), (1, true), (2, false), (4, false), (-6i64, false)] {
        // A null pointer: the kernel answers with an error, which the caller survives.
        let call = format!("call {} {} 0 0 0 0 0", libc::SYS_clock_gettime, clock.cast_unsigned());
        let status = attempt(&format!("wasi {call}"), "").status.code();
        assert_eq!(status, Some(if lives { 0 } else { KILLED }), "clock {clock} with WASI");
        assert_eq!(attempt(&call, "").status.code(), Some(KILLED), "clock {clock} without WASI");
    }
}

/// Take one away, and a life that needs it ends.
fn every_rule_is_needed() {
    let scene = |rule: &Rule| if rule.name == "rt_sigreturn" { "trap" } else { "life" };
    let plain = RUN.iter().chain(ZYGOTE).map(|rule| (scene(rule), rule.name.to_owned()));
    // Another rule has the same name as one of these.
    let tied = TIE.iter().map(|rule| ("tied life", format!("tie {}", rule.name)));
    for (scene, rule) in plain.chain(tied) {
        assert_eq!(attempt(scene, "").status.code(), Some(0), "{scene}");
        let without = attempt(scene, &rule);
        // Either the run dies, or the zygote itself.
        let killed = without.status.code() == Some(KILLED) || without.status.signal() == Some(libc::SIGSYS);
        assert!(killed, "without {rule}: {:?}", without.status);
    }
}

/// Where no pid namespace ends with the zygote.
fn a_run_that_is_tied_dies_with_its_zygote() {
    for (what, dies) in [("tied wait", true), ("wait", false)] {
        let mut scene = Scene::start(what, "");
        let run = scene.run_process();
        scene.zygote.kill().unwrap();
        scene.zygote.wait().unwrap();
        // The run is the last that holds its socket, and waits there for a word that does not come.
        let patience = std::time::Duration::from_secs(if dies { 10 } else { 1 });
        scene.near.set_read_timeout(Some(patience)).unwrap();
        let heard = scene.near.read(&mut [0; 16]).map_err(|error| error.kind());
        let expected = if dies { Ok(0) } else { Err(std::io::ErrorKind::WouldBlock) };
        assert_eq!(heard, expected, "{what}: {run}");
    }
}

fn a_runs_memory_does_not_hold_the_secret() {
    let scene = Scene::start("wait", "");
    let run = scene.run_process();
    let zygote = scene.zygote.id();
    let secret = wiped_page(zygote).expect("the zygote has a page that a fork wipes");
    let secret = memory(zygote, secret, 8);
    assert_ne!(secret, [0; 8], "the zygote's secret is not zero");
    assert_eq!(memory(run, wiped_page(run).expect("the run has the page too"), 8), [0; 8]);
    let (mut pages, mut found) = (0, Vec::new());
    for (start, length) in readable(run) {
        let bytes = memory(run, start, length);
        pages += bytes.len() / 4096;
        // Each half alone would make guessing easy, so each half alone must not be there.
        let here = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        if here(&secret[..4]) || here(&secret[4..]) {
            found.push(start);
        }
    }
    assert!(pages > 100, "the scan has read {pages} pages only");
    // A half has 32 bits: in {pages} pages one shows by chance about once in a thousand tests, so the whole decides.
    for start in found {
        let bytes =
            readable(run).into_iter().find(|(at, _)| *at == start).map(|(at, len)| memory(run, at, len));
        let whole = bytes.is_some_and(|bytes| bytes.windows(8).any(|window| window == secret));
        assert!(!whole, "the secret lies in the run's memory at {start:#x}");
        eprintln!(
            "guard: half of the secret's bits stand in the mapping at {start:#x}: chance, if it happens once"
        );
    }
    let mut zygotes_own = readable(zygote).into_iter().map(|(start, length)| memory(zygote, start, length));
    assert!(
        zygotes_own.any(|bytes| bytes.windows(8).any(|window| window == secret)),
        "the scan finds what is there"
    );
}

// ---- the test's side --------------------------------------------------------------------------

struct Scene {
    zygote: std::process::Child,
    control: OwnedFd,
    near: UnixStream,
}

struct Ended {
    status: ExitStatus,
    heard: Vec<u8>,
}

fn attempt(what: &str, without: &str) -> Ended {
    Scene::start(what, without).end()
}

impl Scene {
    fn start(what: &str, without: &str) -> Scene {
        let pair =
            || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let ((control, theirs), (near, far)) = (pair(), pair());
        let zygote = Command::new(std::env::current_exe().unwrap())
            .args(["zygote", what, without])
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        // The order to fork, as the supervisor sends it: a frame, and the run's socket.
        let mut frame = Vec::new();
        void_ipc::encode(&void_ipc::message::ToZygote::Fork { slots: vec![0] }, &mut frame).unwrap();
        let sockets = [far.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&sockets)];
        sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&frame)], &rights, MsgFlags::empty(), None)
            .unwrap();
        Scene { zygote, control, near: UnixStream::from(near) }
    }

    fn end(mut self) -> Ended {
        drop(self.control);
        let mut heard = Vec::new();
        // A packet for the run to read, if it does; a run that is gone does not mind.
        let _ = nix::sys::socket::send(self.near.as_raw_fd(), MARK, MsgFlags::MSG_NOSIGNAL);
        let _ = self.near.read_to_end(&mut heard);
        Ended { status: self.zygote.wait().unwrap(), heard }
    }

    /// The run process's number, once it has said that it waits.
    fn run_process(&self) -> u32 {
        let mut heard = [0; 16];
        let length = (&self.near).read(&mut heard).unwrap();
        assert_eq!(&heard[..length], MARK);
        let children = format!("/proc/{0}/task/{0}/children", self.zygote.id());
        std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// Where the mapping begins that has the kernel's flag "wipe on fork".
fn wiped_page(pid: u32) -> Option<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut start = None;
    for line in maps.lines() {
        if let Some((from, _)) = line.split_once('-')
            && let Ok(from) = u64::from_str_radix(from, 16)
        {
            start = Some(from);
        }
        if line.starts_with("VmFlags:") && line.split_whitespace().any(|flag| flag == "wf") {
            return start;
        }
    }
    None
}

fn readable(pid: u32) -> Vec<(u64, usize)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    maps.lines()
        .filter(|line| !line.contains("[vvar") && !line.contains("[vsyscall]"))
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (from, to) = range.split_once('-')?;
            rest.starts_with('r').then(|| (number(from), (number(to) - number(from)) as usize))
        })
        .collect()
}

fn memory(pid: u32, start: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; length];
    std::fs::File::open(format!("/proc/{pid}/mem")).unwrap().read_exact_at(&mut bytes, start).unwrap();
    bytes
}

// ---- the zygote's side ------------------------------------------------------------------------

fn zygote(what: &str, without: &str) -> ! {
    let mut third = void_seccomp::inherited(3);
    nix::unistd::dup2(std::io::stdin(), &mut third).unwrap();
    std::mem::forget(third);
    nix::sys::prctl::set_no_new_privs().unwrap();
    let keep = |rules: &[Rule]| rules.iter().copied().filter(|rule| rule.name != without).collect::<Vec<_>>();
    let mut secret = Secret::new().unwrap();
    let mut own = keep(ZYGOTE);
    if what.starts_with("tied ") {
        secret.tie_children();
        own.extend(TIE.iter().filter(|rule| without.strip_prefix("tie ") != Some(rule.name)));
    }
    let handler = SigHandler::Handler(trapped);
    // SAFETY: the handler counts, writes and exits, all of which a handler may do.
    unsafe { signal(Signal::SIGILL, handler) }.unwrap();
    let mut wire = Wire::take(Vec::leak(vec![0; void_ipc::limits::FRAME_BYTES]));
    let mut sockets = Vec::with_capacity(8);
    let free = [keep(RUN), if what.starts_with("wasi ") { keep(WASI) } else { vec![] }].concat();
    Filter::guarded(&free, &own, &secret).unwrap().install().unwrap();

    let order: Option<void_ipc::message::ToZygote> =
        wire.receive_with_descriptors(&secret, &mut sockets).unwrap();
    assert!(order.is_some());
    match fork::fork(&secret, sockets[0]) {
        Ok(Side::Run) => run(what, &secret, &mut wire),
        Ok(Side::Zygote(_)) => {
            if fork::close_received(&secret).is_err() {
                exit(90);
            }
            loop {
                if let Some(reaped) = fork::reap(&secret) {
                    let signal = reaped.status & 0x7f;
                    exit(if signal == 0 { reaped.status >> 8 } else { 100 + signal });
                }
            }
        }
        Err(_) => exit(91),
    }
}

fn run(what: &str, secret: &Secret, wire: &mut Wire) -> ! {
    let mut words = what.trim_start_matches("wasi ").trim_start_matches("tied ").split(' ');
    match words.next() {
        Some("life") => {
            let mut heard = [0; 32];
            let length = call(libc::SYS_read, [3, heard.as_mut_ptr() as u64, 32, 0, 0, 0]);
            if usize::try_from(length) != Ok(MARK.len()) || call(libc::SYS_mprotect, [0, 0, 3, 0, 0, 0]) != 0
            {
                exit(80);
            }
            say();
        }
        Some("wait") => {
            say();
            call(libc::SYS_read, [3, [0u8; 32].as_mut_ptr() as u64, 32, 0, 0, 0]);
        }
        Some("trap") => {
            // SAFETY: an instruction that raises SIGILL, which `trapped` handles.
            unsafe { std::arch::asm!("ud2") };
        }
        Some("call") => {
            let mut numbers = words.map(|word| word.parse::<u64>().unwrap_or_default());
            let number = numbers.next().unwrap_or_default();
            let arguments = std::array::from_fn(|_| numbers.next().unwrap_or_default());
            call(number.cast_signed(), arguments);
            say();
        }
        Some("own") => {
            match words.next() {
                Some("fork") => drop(fork::fork(secret, 3)),
                Some("reap") => drop(fork::reap(secret)),
                Some("close") => drop(fork::close_received(secret)),
                _ => {
                    let mut numbers = Vec::new();
                    drop(wire.receive_with_descriptors::<void_ipc::message::ToZygote>(secret, &mut numbers));
                }
            }
            say();
        }
        _ => exit(81),
    }
    exit(0)
}

/// The first time it returns, to the instruction that trapped; the second time shows that it came back there.
extern "C" fn trapped(_: i32) {
    if TRAPS.fetch_add(1, Ordering::Relaxed) > 0 {
        exit(0);
    }
}

fn say() {
    fork::write_packet(MARK);
}

fn call(number: c_long, a: [u64; 6]) -> c_long {
    // SAFETY: the filter ends this process at everything that could do harm, which is what is tested; pointers, where
    // there are some, are to locals of the caller.
    unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) }
}
