//! `void-bench-calls`: what one gateway call costs the guest, beside a bare round trip over such a socket.
//!
//! Started by `cargo xtask bench calls`. The guest looks at its own clock before and after each call. The floor is two
//! processes on one processor that send each other as many bytes over a SOCK_SEQPACKET pair, and nothing else. Both are
//! measured in turns, and what counts is the ratio. How to read it: docs/performance.md.
#![forbid(unsafe_code)]

#[path = "../server.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other program uses the rest")]
mod server;

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::Pid;

use crate::server::Server;

/// Calls of one turn, and turns.
const CALLS: usize = 10_000;
const TURNS: usize = 10;
/// Bytes that a `kv.get` of 100 bytes sends and receives, roughly.
const ASKS: usize = 24;
const ANSWERS: usize = 112;

/// The guest: `KIND(n)` makes n calls and gives the times of the middle one and of the slowest hundredth, and of all.
const GUEST: &str = r#"(module
  (import "void" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "void" "kv_get" (func $kv_get (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "void" "kv_set" (func $kv_set (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 16) "the key")
  (func $now (result i64) (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 0))) (i64.load (i32.const 0)))
  (func $get (result i32)
    (call $kv_get (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 1024) (i32.const 200)))
  (func $set (result i32)
    (call $kv_set (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 1024) (i32.const 100)))
  (func $say (result i32) (call $emit (i32.const 16) (i32.const 7) (i32.const 1024) (i32.const 100)))
  (func $idle (result i32) (i32.const 0))
  (table funcref (elem $get $say $set $idle))
  (type $call (func (result i32)))
  ;; How many took n times 50 ns, from 1 MiB on; the last counts all that took longer.
  (func $count (param $ns i64) (local $at i32)
    (local.set $at (i32.add (i32.const 0x100000) (i32.shl
      (select (i32.const 0x7ffff) (i32.wrap_i64 (i64.div_u (local.get $ns) (i64.const 50)))
        (i64.gt_u (local.get $ns) (i64.const 26214350))) (i32.const 2))))
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1))))
  (func $slowest (param $left i32) (result i64) (local $at i32)
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.load (i32.add (i32.const 0x100000) (i32.shl (local.get $at) (i32.const 2))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $left) (i32.const 0))))
    (i64.mul (i64.extend_i32_u (local.get $at)) (i64.const 50)))
  (func (export "measure") (param $which i32) (param $n i32) (result i64 i64 i64)
    (local $i i32) (local $begin i64) (local $before i64) (local $after i64)
    (local.set $before (call $now)) (local.set $begin (local.get $before))
    (loop $again
      (if (i32.lt_s (call_indirect (type $call) (local.get $which)) (i32.const 0)) (then unreachable))
      (local.set $after (call $now))
      (call $count (i64.sub (local.get $after) (local.get $before)))
      (local.set $before (local.get $after))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (call $slowest (i32.div_u (local.get $n) (i32.const 2)))
    (call $slowest (i32.sub (local.get $n) (i32.div_u (local.get $n) (i32.const 100))))
    (i64.sub (local.get $after) (local.get $begin))))"#;

/// Times of one turn, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    middle: f64,
    slowest: f64,
    each: f64,
}

fn main() -> ExitCode {
    let done = if std::env::args().nth(1).as_deref() == Some("answer") { answer() } else { run() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("void-bench-calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let program = std::env::current_exe()?;
    let binaries = program.parent().unwrap_or(Path::new("."));
    let state = tempfile::tempdir()?;
    let service = Server::service_with(
        binaries,
        state.path(),
        state.path(),
        &[
            ("WASM_CAPS", "emit,kv"),
            ("WASM_SYSCALL_MAX", "1000000000"),
            ("WASM_SYSCALL_RPS", "1000000"),
            ("WASM_CPU_MS_BUDGET", "60000"),
            ("WASM_WALL_MS_BUDGET", "60000"),
        ],
    )?;
    let module = wat::parse_str(GUEST).map_err(Error::other)?;
    let uploaded = ask(&service, "PUT", "/v1/modules", &module)?;
    let cid = uploaded["cid"].as_str().ok_or_else(|| Error::other(uploaded.to_string()))?.to_owned();
    let measure = |which: u32, calls: usize| guest(&service, &cid, which, calls);
    measure(2, 1)?;
    let floor = Floor::start()?;
    let names = ["bare round trip", "kv.get, 100 bytes", "emit, 100 bytes", "kv.set, 100 bytes"];
    let mut all: [Vec<Times>; 4] = Default::default();
    let (mut idle, mut begun) = (Vec::new(), Instant::now());
    for turn in 0..=TURNS {
        let times = [floor.measure(CALLS)?, measure(0, CALLS)?, measure(1, CALLS)?, measure(2, CALLS / 50)?];
        idle.push(measure(3, CALLS)?.middle);
        // The first turn warms up.
        if turn == 0 {
            begun = Instant::now();
            continue;
        }
        all.iter_mut().zip(times).for_each(|(all, times)| all.push(times));
    }
    println!(
        "{TURNS} turns of {CALLS} calls in {:.1} s; the middle turn of each, and its ratio to the bare round trip.",
        begun.elapsed().as_secs_f64()
    );
    println!(
        "The guest's own look at its clock, {:.2} us, is in each of its calls.\n",
        middle(idle) / 1000.0
    );
    println!("{:20} {:>12} {:>12} {:>12} {:>8} {:>8}", "", "p50 us", "p99 us", "calls/s", "p50", "p99");
    let of = |times: &[Times], what: fn(&Times) -> f64| middle(times.iter().map(what).collect());
    let floor50 = of(&all[0], |times| times.middle);
    let floor99 = of(&all[0], |times| times.slowest);
    for (name, times) in names.iter().zip(&all) {
        let (p50, p99) = (of(times, |times| times.middle), of(times, |times| times.slowest));
        let each = of(times, |times| times.each);
        println!(
            "{name:20} {:>12.2} {:>12.2} {:>12.0} {:>7.1}x {:>7.1}x",
            p50 / 1000.0,
            p99 / 1000.0,
            1e9 / each,
            p50 / floor50,
            p99 / floor99
        );
    }
    Ok(())
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn guest(service: &Server, cid: &str, which: u32, calls: usize) -> Result<Times> {
    let body = format!(r#"{{"target":{{"cid":"{cid}"}},"entry":"measure","args":[{which},{calls}]}}"#);
    let record = ask(service, "POST", "/v1/exec", body.as_bytes())?;
    let number = |at: usize| record["result"][at].as_str().and_then(|text| text.parse::<f64>().ok());
    match (number(0), number(1), number(2)) {
        (Some(middle), Some(slowest), Some(all)) => Ok(Times { middle, slowest, each: all / calls as f64 }),
        _ => Err(Error::other(format!("the guest did not measure: {record}"))),
    }
}

fn ask(service: &Server, method: &str, path: &str, body: &[u8]) -> Result<serde_json::Value> {
    let mut stream = TcpStream::connect(service.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(70)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nprefer: wait=60\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let begin = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    serde_json::from_slice(&answer[begin..])
        .map_err(|error| Error::other(format!("{error}: {}", String::from_utf8_lossy(&answer))))
}

/// A process that answers each packet, on this one's processor.
struct Floor {
    socket: OwnedFd,
    child: std::process::Child,
}

impl Floor {
    fn start() -> Result<Floor> {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let everywhere = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count()).find(|cpu| everywhere.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
        let mut here = CpuSet::new();
        here.set(first)?;
        // The child inherits where this process may be.
        sched_setaffinity(Pid::from_raw(0), &here)?;
        let child = Command::new(std::env::current_exe()?).arg("answer").stdin(Stdio::from(far)).spawn()?;
        Ok(Floor { socket: near, child })
    }

    fn measure(&self, calls: usize) -> Result<Times> {
        use std::os::fd::AsRawFd;
        let socket = self.socket.as_raw_fd();
        let (question, mut answer) = ([0; ASKS], [0; 256]);
        let mut times = Vec::with_capacity(calls);
        let begun = Instant::now();
        let mut before = begun;
        for _ in 0..calls {
            send(socket, &question, MsgFlags::empty())?;
            recv(socket, &mut answer, MsgFlags::empty())?;
            let after = Instant::now();
            times.push((after - before).as_nanos() as f64);
            before = after;
        }
        let each = begun.elapsed().as_nanos() as f64 / calls as f64;
        times.sort_by(f64::total_cmp);
        Ok(Times { middle: times[calls / 2], slowest: times[calls - calls / 100], each })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It ends with its socket; whoever waits for it must not hold that.
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.socket),
            nix::sys::socket::Shutdown::Both,
        );
        let _ = self.child.wait();
    }
}

fn answer() -> Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::io::stdin().as_fd().as_raw_fd();
    let (mut question, answer) = ([0; 256], [0; ANSWERS]);
    while recv(socket, &mut question, MsgFlags::empty())? > 0 {
        send(socket, &answer, MsgFlags::empty())?;
    }
    Ok(())
}
