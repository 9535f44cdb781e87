//! Guests that make gateway calls which a test writes down: one export for each.

use std::fmt::Write;

use data_encoding::BASE64;

use super::events::Events;
use super::guest::wat;
use super::server::Server;

/// A request that a guest makes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The URL.
    pub url: &'a [u8],
    /// Lines of `name: value`, each ended by a line feed.
    pub headers: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// GET without headers of its own.
    pub fn get(url: &'a str) -> Self {
        Self { method: b"GET", url: url.as_bytes(), headers: b"", body: b"" }
    }

    /// The same with these header lines.
    pub fn with(self, headers: &'a str) -> Self {
        Self { headers: headers.as_bytes(), ..self }
    }
}

/// A module under construction. It can do all gateway calls; what it does besides is given as text.
#[derive(Debug)]
pub struct Caller {
    data: String,
    functions: String,
    end: usize,
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

impl Caller {
    /// A module without exports.
    pub fn new() -> Self {
        Self { data: String::new(), functions: String::new(), end: 4096 }
    }

    /// Lays bytes into its memory; their address and length as two constants.
    pub fn bytes(&mut self, bytes: &[u8]) -> String {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "\\{byte:02x}").expect("a string");
            hex
        });
        let at = self.end;
        writeln!(self.data, "(data (i32.const {at}) \"{hex}\")").expect("a string");
        self.end += bytes.len();
        format!("(i32.const {at}) (i32.const {})", bytes.len())
    }

    /// Adds a function `name` that makes a request, emits the headers and the body of its answer (where that is not
    /// longer than an event), and returns the status or the code. `name.len` returns the body's length instead.
    pub fn fetch(mut self, name: &str, request: Request<'_>) -> Self {
        let Request { method, url, headers, body } = request;
        let parts = [method, url, headers, body].map(|part| self.bytes(part)).join(" ");
        write!(
            self.functions,
            "(func (export \"{name}\") (result i32) (call $report (call $http_fetch {parts})))
             (func (export \"{name}.len\") (result i32) (local $status i32)
               (local.set $status (call $http_fetch {parts}))
               (if (result i32) (i32.lt_s (local.get $status) (i32.const 0))
                 (then (local.get $status)) (else (call $http_body_len))))\n"
        )
        .expect("a string");
        self
    }

    /// Adds text of one's own.
    pub fn code(mut self, text: &str) -> Self {
        self.functions.push_str(text);
        self
    }

    /// The module.
    #[track_caller]
    pub fn build(self) -> Vec<u8> {
        let Self { data, functions, .. } = self;
        wat(&format!(
            r#"(module
  (import "void" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (import "void" "kv_get" (func $kv_get (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "void" "kv_set" (func $kv_set (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "void" "kv_delete" (func $kv_delete (param i32 i32 i32 i32) (result i32)))
  (import "void" "http_fetch" (func $http_fetch (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "void" "http_headers" (func $http_headers (param i32 i32) (result i32)))
  (import "void" "http_body_len" (func $http_body_len (result i32)))
  (import "void" "http_body" (func $http_body (param i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 16) "headersbody")
  {data}
  (func $report (param $status i32) (result i32) (local $length i32)
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (local.get $status))))
    (local.set $length (call $http_headers (i32.const 0x300000) (i32.const 65536)))
    (drop (call $emit (i32.const 16) (i32.const 7) (i32.const 0x300000) (local.get $length)))
    (if (i32.le_u (call $http_body_len) (i32.const 65536)) (then
      (local.set $length (call $http_body (i32.const 0) (i32.const 0x300000) (i32.const 65536)))
      (drop (call $emit (i32.const 23) (i32.const 4) (i32.const 0x300000) (local.get $length)))))
    (local.get $status))
  {functions})"#
        ))
    }
}

impl Server {
    /// The events that a run which has ended emitted, in order: names and data.
    #[track_caller]
    pub fn emitted(&self, run_id: &str) -> Vec<(String, Vec<u8>)> {
        let mut events = Events::follow(self, &format!("?run_id={run_id}"), None);
        let mut emitted = Vec::new();
        loop {
            let event = events.next(std::time::Duration::from_secs(20)).expect("the end of the run");
            match event.kind() {
                "wasm.exec.started" => {}
                "wasm.guest.emit" => {
                    assert_eq!(event.run_id(), run_id);
                    let data = &event.data["data"];
                    let bytes = match (data["data"].as_str(), data["data_base64"].as_str()) {
                        (Some(text), None) => text.as_bytes().to_vec(),
                        (None, Some(code)) => BASE64.decode(code.as_bytes()).expect("base64"),
                        _ => panic!("one of both: {data}"),
                    };
                    emitted.push((data["event"].as_str().expect("a name").to_owned(), bytes));
                }
                _ => return emitted,
            }
        }
    }

    /// The text of the one event of that name that a run emitted.
    #[track_caller]
    pub fn emitted_text(&self, run_id: &str, name: &str) -> String {
        let emitted = self.emitted(run_id);
        let (_, data) = emitted.iter().find(|(event, _)| event == name).expect("the event");
        String::from_utf8(data.clone()).expect("text")
    }
}
