//! What systemd and the service say to each other: passed sockets (`sd_listen_fds(3)`) and notifications (`sd_notify(3)`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use void_tests::{EnvFile, Notified, Server};

const SOON: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a listening socket")
}

/// Sends a request, without waiting for anybody to accept.
fn ask(listener: &TcpListener) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all(REQUEST).expect("sent");
    stream
}

fn answered(mut stream: impl Read) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Seconds since boot, to a hundredth.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("an uptime");
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("a number")
}

#[test]
fn a_passed_socket_is_the_one_that_is_listened_on() {
    let listener = listener();
    let early = ask(&listener);
    let server = Server::builder()
        .pass(listener.try_clone().expect("a descriptor"))
        .env("LISTEN_FDNAMES", "void-wasm.socket")
        .start();
    assert_eq!(server.address(), listener.local_addr().expect("an address"));
    // Whoever came before the service was there is served by it.
    answered(early);
    answered(ask(&listener));
}

#[test]
fn connections_wait_while_the_service_is_restarted() {
    let listener = listener();
    let pass = || Server::builder().pass(listener.try_clone().expect("a descriptor"));
    let server = pass().start();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    let waiting = ask(&listener);
    let _next = pass().start();
    answered(waiting);
}

#[test]
fn sockets_of_both_kinds_are_served() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("socket");
    let (tcp, unix) = (listener(), UnixListener::bind(&path).expect("a listening socket"));
    let server = Server::builder().pass(tcp.try_clone().expect("a descriptor")).pass(unix).start();
    server.logs(&["listening", path.to_str().expect("a plain path")]);
    answered(ask(&tcp));
    let mut stream = UnixStream::connect(&path).expect("a connection");
    stream.write_all(REQUEST).expect("sent");
    answered(stream);
    // It was made by somebody else, who will want it again.
    drop(server);
    assert!(path.exists());
}

#[test]
fn a_socket_for_another_process_is_left_alone() {
    let listener = listener();
    let server =
        Server::builder().pass(listener.try_clone().expect("a descriptor")).env("LISTEN_PID", "1").start();
    assert_ne!(server.address(), listener.local_addr().expect("an address"));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn what_cannot_be_accepted_on_stops_the_start() {
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let file = tempfile::tempfile().expect("a file");
    for exited in [
        Server::builder().pass(datagrams).refuses_to_start(),
        Server::builder().pass(file).refuses_to_start(),
    ] {
        exited.with_code(71).and_says(&["descriptor 3", "ListenStream="]);
    }
}

#[test]
fn a_socket_that_other_machines_reach_needs_tokens() {
    let open = TcpListener::bind("0.0.0.0:0").expect("a listening socket");
    let pass = || Server::builder().pass(open.try_clone().expect("a descriptor"));
    pass().refuses_to_start().with_code(78).and_says(&["WASM_API_TOKENS_FILE"]);

    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(tokens.path(), "anna anna-token-0123456789abcdef\n").expect("written");
    let env = EnvFile::new(&[&format!("WASM_API_TOKENS_FILE={}", tokens.path().display())]);
    let server = pass().env("WASM_ENV_FILE", env.path()).start();
    env.write(&["WASM_API_TOKENS_FILE="]);
    assert!(!server.reload(), "the tokens were taken away");
    assert_eq!(server.get("/v1/runs").status, 401);
}

#[test]
fn systemd_hears_of_the_start_each_reload_and_the_stop() {
    let heard = Notified::new();
    let env = EnvFile::new(&["WASM_EXEC_FREEZE=0"]);
    let server =
        Server::builder().env("NOTIFY_SOCKET", &heard.path()).env("WASM_ENV_FILE", env.path()).start();
    let ready = heard.hears("READY=1");
    assert!(ready.lines().any(|line| line.starts_with("STATUS=")), "{ready}");
    assert_eq!(server.get("/readyz").status, 200);

    // A reload that is refused is over as well: systemd must not wait for it for ever.
    for line in ["WASM_EXEC_FREEZE=1", "WASM_EXEC_FREEZE=perhaps"] {
        env.write(&[line]);
        let before = uptime();
        server.signal(Signal::SIGHUP);
        let reloading = heard.hears("RELOADING=1");
        heard.hears("READY=1");
        let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let since: f64 = since.and_then(|usec| usec.parse().ok()).unwrap_or_else(|| panic!("{reloading}"));
        let since = since / 1e6;
        assert!((before - 0.02..=uptime() + 0.02).contains(&since), "{since}, and it was {before}");
        assert_eq!(server.metrics().sum("void_wasm_frozen", &[]), 1.0, "{line}");
    }
    assert!(heard.is_silent(), "nothing wanted a watchdog");

    server.signal(Signal::SIGTERM);
    heard.hears("STOPPING=1");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}

#[test]
fn a_start_that_fails_is_never_called_ready() {
    let heard = Notified::new();
    let exited =
        Server::builder().env("NOTIFY_SOCKET", &heard.path()).env("WASM_WORKERS", "0").refuses_to_start();
    exited.with_code(78);
    assert!(heard.is_silent());
}

#[test]
fn the_watchdog_hears_of_it_in_time() {
    let heard = Notified::new();
    let every = Duration::from_secs(2);
    let _server = Server::builder()
        .pass(listener())
        .env("NOTIFY_SOCKET", &heard.path())
        .env("WATCHDOG_USEC", &every.as_micros().to_string())
        .start();
    heard.hears("WATCHDOG=1");
    for _ in 0..3 {
        let since = std::time::Instant::now();
        heard.hears("WATCHDOG=1");
        assert!(since.elapsed() < every, "too late by {:?}", since.elapsed() - every);
    }
}

#[test]
fn a_watchdog_for_another_process_hears_nothing() {
    let heard = Notified::new();
    let server = Server::builder()
        .env("NOTIFY_SOCKET", &heard.path())
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1")
        .start();
    heard.hears("READY=1");
    // A reload takes its time, and only it is heard.
    assert!(server.reload());
    heard.hears("RELOADING=1");
    heard.hears("READY=1");
    assert!(heard.is_silent());
}
