//! An example guest in Rust that makes each of the gateway calls: `run(port)` counts its runs in the key-value store, fetches
//! `http://127.0.0.1:PORT/greeting`, keeps the first line of what it got, and emits what it saw. `examples/README.md` shows
//! it at work.
//!
//! Without the standard library: no allocator, a module of a few KiB.
#![no_std]

use core::fmt::{self, Write};

use void_guest::{emit, http, kv, Error};

const NAMESPACE: &str = "examples";

/// Text under construction.
struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Text {
    fn new() -> Self {
        Text { bytes: [0; 512], len: 0 }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// The formatted text.
fn text(arguments: fmt::Arguments<'_>) -> Result<Text, Error> {
    let mut text = Text::new();
    text.write_fmt(arguments).map_err(|_| Error::TooLarge)?;
    Ok(text)
}

/// How often this ran, this time included: read, add one, write.
fn count_visit() -> Result<u32, Error> {
    let mut kept = [0; 10];
    let before = match kv::get(NAMESPACE, "visits", &mut kept) {
        Ok(len) => {
            let kept = kept.get(..len).ok_or(Error::TooLarge)?;
            core::str::from_utf8(kept).ok().and_then(|digits| digits.parse().ok()).ok_or(Error::Invalid)?
        }
        Err(Error::NotFound) => 0,
        Err(other) => return Err(other),
    };
    let visits: u32 = before + 1;
    kv::set(NAMESPACE, "visits", text(format_args!("{visits}"))?.as_str().as_bytes())?;
    Ok(visits)
}

/// What was fetched.
struct Seen {
    bytes: usize,
    fnv1a: u32,
    start: [u8; 256],
    first_line: usize,
}

fn read_body() -> Result<Seen, Error> {
    let mut seen = Seen { bytes: 0, fnv1a: 2_166_136_261, start: [0; 256], first_line: 0 };
    let mut piece = [0; 1024];
    let mut ended = false;
    loop {
        let got = http::body(seen.bytes, &mut piece)?;
        if got == 0 {
            return Ok(seen);
        }
        for &byte in &piece[..got] {
            seen.fnv1a = (seen.fnv1a ^ u32::from(byte)).wrapping_mul(16_777_619);
            ended |= byte == b'\n' || seen.first_line == seen.start.len();
            if !ended {
                seen.start[seen.first_line] = byte;
                seen.first_line += 1;
            }
        }
        seen.bytes += got;
    }
}

/// The value of a header in `headers`, lines of `name: value`; names are in lower case.
fn header<'a>(headers: &'a str, name: &str) -> &'a str {
    headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

fn visit(port: u32) -> Result<u32, Error> {
    let visits = count_visit()?;

    let url = text(format_args!("http://127.0.0.1:{port}/greeting"))?;
    let status = http::fetch("GET", url.as_str(), "accept: text/plain\n", b"")?;
    let seen = read_body()?;
    let mut headers = [0; 2048];
    let len = http::headers(&mut headers)?;
    let headers = core::str::from_utf8(headers.get(..len).ok_or(Error::TooLarge)?).map_err(|_| Error::Invalid)?;

    kv::set(NAMESPACE, "greeting", &seen.start[..seen.first_line])?;
    // Something that is not to stay.
    kv::set(NAMESPACE, "scratch", b"1")?;
    kv::delete(NAMESPACE, "scratch")?;

    let data = text(format_args!(
        r#"{{"from":"rust","visits":{visits},"status":{status},"type":"{}","bytes":{},"fnv1a":{}}}"#,
        header(headers, "content-type"),
        seen.bytes,
        seen.fnv1a
    ))?;
    emit("example.visited", data.as_str().as_bytes())?;
    Ok(visits)
}

/// Returns how often it ran, or the code of the call that did nothing.
#[no_mangle]
pub extern "C" fn run(port: u32) -> i32 {
    visit(port).map_or_else(Error::code, |visits| visits as i32)
}

/// Emits the greeting that the last `run` kept, of whichever language it was. Returns its length.
#[no_mangle]
pub extern "C" fn recall() -> i32 {
    let mut greeting = [0; 256];
    let recalled = kv::get(NAMESPACE, "greeting", &mut greeting).and_then(|len| {
        emit("example.recalled", greeting.get(..len).ok_or(Error::TooLarge)?)?;
        Ok(len)
    });
    recalled.map_or_else(Error::code, |len| len as i32)
}

/// Removes what `run` kept. Returns how many keys there were.
#[no_mangle]
pub extern "C" fn forget() -> i32 {
    let forgotten = kv::delete(NAMESPACE, "visits")
        .and_then(|visits| Ok(i32::from(visits) + i32::from(kv::delete(NAMESPACE, "greeting")?)));
    forgotten.unwrap_or_else(Error::code)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
