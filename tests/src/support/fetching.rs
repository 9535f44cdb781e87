//! Servers and guests for tests of `http.fetch`.

use std::io;

use serde_json::json;

use super::caller::{Caller, Request};
use super::run::Run;
use super::server::{Builder, Server};
use super::upstream::{Asked, Stream, reply};

/// A server whose guests may fetch from these hosts, as often as they like.
pub fn fetching(allowlist: &str) -> Builder {
    Server::builder()
        .env("WASM_CAPS", "emit,http")
        .env("WASM_HTTP_ALLOWLIST", allowlist)
        .env("WASM_HTTP_RPS", "10000")
        .env("WASM_HTTP_BURST", "10000")
}

/// Runs one request in a run of its own.
#[track_caller]
pub fn fetch(server: &Server, request: Request<'_>) -> Run {
    server.run(&server.upload(&Caller::new().fetch("f", request).build()), "f", json!([]))
}

/// What the guest's call returned: a status, or the code of a refusal.
#[track_caller]
pub fn code(run: &Run) -> i64 {
    run.result().as_i64().expect("a code")
}

/// Checks that the call was denied by that rule.
#[track_caller]
pub fn denied_by(run: &Run, rule: &str) {
    assert!(code(run) < 0, "{}", run.record());
    assert_eq!(run.record()["denials"][0]["rule"], rule, "{}", run.record());
}

/// 200 with the request in the body.
pub fn echo(asked: &Asked, to: &mut dyn Stream) -> io::Result<()> {
    let text =
        format!("{}\n{}\n\n{}", asked.line, asked.headers.join("\n"), String::from_utf8_lossy(&asked.body));
    reply(to, "200 OK", &["X-Answer: yes", "Content-Type: text/plain"], text.as_bytes())
}

/// As gzip has it.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    // One stored block after the other: gzip without a compressor (RFC 1951, 3.2.4; RFC 1952).
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = bytes.chunks(65_535).chain([&[][..]]);
    let last = bytes.len().div_ceil(65_535);
    for (number, chunk) in blocks.enumerate() {
        out.push(u8::from(number == last));
        let length = chunk.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    let crc = bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    });
    out.extend((!crc).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}
