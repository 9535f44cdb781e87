//! A host that guests fetch from to say that they have begun. What it saw lies outside the service, in the test itself:
//! no kill of the service loses it, and no mistake in the service's records hides it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::caller::Caller;
use super::upstream::{Upstream, reply};

/// The host. Each mark is a run's own number, in the order of arrival.
pub struct Witness {
    host: Upstream,
    marks: Arc<Mutex<Vec<u64>>>,
}

impl Witness {
    /// Listens on any port of this machine.
    #[track_caller]
    pub fn start() -> Self {
        let marks = Arc::<Mutex<Vec<u64>>>::default();
        let seen = Arc::clone(&marks);
        let host = Upstream::start(move |asked, to| {
            // A request that was cut off by a kill has no whole line, and its number could be another's beginning.
            let target = asked.line.strip_suffix(" HTTP/1.1").and_then(|line| line.strip_prefix("GET /"));
            if let Some(number) = target.and_then(|number| number.parse().ok()) {
                seen.lock().expect("no test panics with it").push(number);
            }
            reply(to, "200 OK", &[], b"")
        });
        Self { host, marks }
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        self.host.place()
    }

    /// How many marks there are so far.
    pub fn count(&self) -> usize {
        self.marks.lock().expect("no test panics with it").len()
    }

    /// The marks so far.
    pub fn marks(&self) -> Vec<u64> {
        self.marks.lock().expect("no test panics with it").clone()
    }

    /// How often each number was marked.
    pub fn counts(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for number in self.marks() {
            *counts.entry(number).or_insert(0) += 1;
        }
        counts
    }

    /// A guest whose functions, given as text, can call `$mark` with a number: it fetches that number from this host, and
    /// traps where that fails. `$digits` writes a number as ten digits from the address 512 on. `$spin` takes its time.
    #[track_caller]
    pub fn guest(&self, functions: &str) -> Vec<u8> {
        let url = format!("http://{}/", self.place());
        // The digits follow the URL, so that both are one piece of text.
        let at = 512 - url.len();
        Caller::new()
            .code(&format!(
                r#"
  (data (i32.const {at}) "{url}")
  (data (i32.const 64) "GET")
  (func $digits (param $number i64) (local $at i32)
    (local.set $at (i32.const 521))
    (loop $next
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $next (i32.ge_u (local.get $at) (i32.const 512)))))
  (func $mark (param $number i64)
    (call $digits (local.get $number))
    (if (i32.ne (i32.const 200)
        (call $http_fetch (i32.const 64) (i32.const 3) (i32.const {at}) (i32.const {length})
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
      (then unreachable)))
  (func $spin (param $turns i64)
    (loop $again
      (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
      (br_if $again (i64.gt_s (local.get $turns) (i64.const 0)))))
  {functions}"#,
                length = url.len() + 10
            ))
            .build()
    }
}
