//! A real `void-supervisor` with a state folder of its own, on a port that the kernel picks. It dies with the test, and
//! the test fails when it leaves a process behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Client, Response};
use super::log::Log;
use super::metrics::Metrics;
use super::run::{Exec, Run};
use super::wait::eventually;
use super::{binaries, guest};
use crate::Process;

/// Generous: several servers may be starting at once on few cores.
const TO_START: Duration = Duration::from_secs(30);
const TO_STOP: Duration = Duration::from_secs(30);

/// How to start a server. Starts from: enabled, everything executed, a wall budget that a busy machine does not reach.
#[derive(Clone)]
pub struct Builder {
    vars: BTreeMap<String, String>,
    user: Option<u32>,
    hostile: bool,
    /// The command that executes the server.
    through: Vec<String>,
    /// Passed to the server as systemd passes sockets.
    sockets: Vec<Arc<OwnedFd>>,
}

/// How a server ended that did not stay up.
#[derive(Debug)]
pub struct Exited {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it wrote.
    pub log: String,
}

impl Builder {
    /// Sets a variable of the server's environment, which is otherwise empty.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable out that the harness would set.
    pub fn without(mut self, name: &str) -> Self {
        self.vars.remove(name);
        self
    }

    /// Runs the server as a user without any right. Only root can ask for that.
    pub fn as_user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Puts `void-hostile-worker` in the worker's place: what a run says is then what its entry's name stands for.
    pub fn with_hostile_worker(mut self) -> Self {
        self.hostile = true;
        self
    }

    /// Has another command execute the server: one that ends in `exec`, so that the process stays the same.
    pub fn through(mut self, command: &[&str]) -> Self {
        assert!(self.sockets.is_empty(), "the shell that passes sockets executes the server itself");
        self.through = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Passes the server a descriptor as systemd does for a socket unit (`sd_listen_fds(3)`). At most two.
    pub fn pass(mut self, socket: impl Into<OwnedFd>) -> Self {
        assert!(self.sockets.len() < 2, "more than the shell can be given");
        self.sockets.push(Arc::new(socket.into()));
        self
    }

    /// The command that starts `program`, with the descriptors in place that it is to be passed.
    fn command(&self, program: &Path) -> Command {
        let script = match self.sockets.len() {
            0 => {
                let mut words = self.through.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
                let mut command = Command::new(words.next().expect("at least the program"));
                command.args(words);
                command.stdin(Stdio::null()).stdout(Stdio::piped());
                return command;
            }
            // A shell can say LISTEN_PID and WATCHDOG_PID, which are its own number and stay the same through exec.
            1 => {
                "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=${LISTEN_PID:-$$} WATCHDOG_PID=$$; exec \"$0\""
            }
            _ => {
                "exec 3<&0 4<&1 </dev/null >&2; export LISTEN_FDS=2 LISTEN_PID=${LISTEN_PID:-$$} WATCHDOG_PID=$$; exec \"$0\""
            }
        };
        let given = |index: usize| self.sockets[index].try_clone().map(Stdio::from).expect("a descriptor");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(program).stdin(given(0));
        command.stdout(if self.sockets.len() > 1 { given(1) } else { Stdio::piped() });
        command
    }

    /// Starts the server and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Server {
        let home = TempDir::with_prefix("void-wasm-test-").expect("a temporary folder");
        self.start_in(home).unwrap_or_else(|exited| panic!("the server did not start: {exited:?}"))
    }

    /// Starts a server that is expected to refuse, and waits until it has ended.
    #[track_caller]
    pub fn refuses_to_start(self) -> Exited {
        let home = TempDir::with_prefix("void-wasm-test-").expect("a temporary folder");
        match self.start_in(home) {
            Ok(server) => panic!("the server started: {}", server.log()),
            Err(exited) => exited,
        }
    }

    /// Starts the server on the state that an earlier one left in `home`.
    #[track_caller]
    pub(crate) fn start_in(self, home: TempDir) -> Result<Server, Exited> {
        let path = home.path();
        let bin = match self.user {
            Some(_) if !path.join("bin").exists() => binaries::copy_for_everybody(path),
            Some(_) => path.join("bin"),
            None if self.hostile => binaries::with_hostile_worker(path),
            None => binaries::release_dir(),
        };
        for folder in ["state", "manifests", "cache"] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder).expect("a folder of the server");
            chown(&folder, self.user, self.user).expect("chown of the server's folder");
        }
        let mut command = self.command(&bin.join("void-supervisor"));
        command.env_clear().current_dir(path).stderr(Stdio::piped());
        command.env("WASM_STATE_DIR", path.join("state"));
        command.env("FNPM_MANIFEST_DIRS", path.join("manifests"));
        command.env("FNPM_CACHE_DIR", path.join("cache"));
        command.envs(&self.vars);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().expect("void-supervisor can be executed");
        let log = Log::default();
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        log.follow(child.stderr.take().expect("a pipe"));

        let line = log.find(TO_START, |line| address_in(line).is_some());
        let Some(address) = line.as_deref().and_then(address_in) else {
            // Either it has ended, or it hangs and is ended now.
            let deadline = Instant::now() + Duration::from_secs(2);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let _ = child.kill();
            let status = child.wait().expect("the server was started by this test");
            log.ended(TO_STOP);
            return Err(Exited { status, log: log.text() });
        };
        let process = Process::now(child.id() as i32).expect("a server that listens is alive");
        Ok(Server { child: Mutex::new(child), process, address, log, builder: self, home: Some(home) })
    }
}

/// The address that a line of the log says is listened on, in text or JSON form.
fn address_in(line: &str) -> Option<SocketAddr> {
    let at = line.to_ascii_lowercase().contains("listening").then(|| line.find("address"))??;
    let rest = line[at + "address".len()..].trim_start_matches(['"', '=', ':', ' ']);
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A running server.
pub struct Server {
    child: Mutex<Child>,
    process: Process,
    address: SocketAddr,
    log: Log,
    builder: Builder,
    home: Option<TempDir>,
}

impl Server {
    /// A server to be configured.
    pub fn builder() -> Builder {
        let vars = [
            ("PATH", "/usr/bin:/bin"),
            ("RUST_LOG", "info"),
            ("RUST_BACKTRACE", "1"),
            ("WASM_LISTEN", "127.0.0.1:0"),
            ("WASM_EXEC_ENABLED", "1"),
            ("WASM_EXEC_CANARY", "1"),
            ("WASM_WALL_MS_BUDGET", "20000"),
            ("FNPM_HTTP_GATEWAYS", ""),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Builder { vars: vars.into(), user: None, hostile: false, through: Vec::new(), sockets: Vec::new() }
    }

    /// A server as the harness sets it up.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its folder of `state/`, `manifests/` and `cache/`.
    pub fn home(&self) -> &Path {
        self.home.as_ref().expect("a server has a home until it is stopped").path()
    }

    /// The folder that it reads manifests from.
    pub fn manifests(&self) -> PathBuf {
        self.home().join("manifests")
    }

    /// All that it has written so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of its log that holds all of `words`.
    #[track_caller]
    pub fn logs(&self, words: &[&str]) -> String {
        self.log
            .find(Duration::from_secs(10), |line| words.iter().all(|word| line.contains(word)))
            .unwrap_or_else(|| panic!("no line with {words:?} in:\n{}", self.log()))
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address).unwrap_or_else(|e| panic!("cannot connect: {e}\n{}", self.log()))
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.connect()
            .request(method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], &[])
    }

    /// POST of JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// PUT of a module.
    #[track_caller]
    pub fn put_module(&self, module: &[u8]) -> Response {
        self.request("PUT", "/v1/modules", &[("Content-Type", "application/wasm")], module)
    }

    /// Uploads a module and returns its CID.
    #[track_caller]
    pub fn upload(&self, module: &[u8]) -> String {
        let response = self.put_module(module);
        assert!(matches!(response.status, 200 | 201), "not taken: {} {}", response.status, response.text());
        response.json()["cid"].as_str().expect("an uploaded module has a CID").to_owned()
    }

    /// Uploads a module in text form and returns its CID.
    #[track_caller]
    pub fn upload_wat(&self, text: &str) -> String {
        self.upload(&guest::wat(text))
    }

    /// Uploads `guests/NAME.wat` and returns its CID.
    #[track_caller]
    pub fn upload_guest(&self, name: &str) -> String {
        self.upload(&guest::guest(name))
    }

    /// A request for a run.
    pub fn exec(&self, request: Value) -> Exec<'_> {
        Exec::new(self, request.to_string().into_bytes())
    }

    /// A request for a run whose body is sent as it is.
    pub fn exec_raw(&self, body: impl Into<Vec<u8>>) -> Exec<'_> {
        Exec::new(self, body.into())
    }

    /// Runs `entry` of a module to its end.
    #[track_caller]
    pub fn run(&self, cid: &str, entry: &str, args: Value) -> Run {
        self.exec(json!({"target": {"cid": cid}, "entry": entry, "args": args})).wait()
    }

    /// The metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text())
    }

    /// Its living processes of that name: `void-run`, `void-zygote`, `void-spawner`, `void-compiler`.
    pub fn processes(&self, name: &str) -> Vec<Process> {
        self.process.descendants_named(name)
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the server to end by itself and returns how it did.
    #[track_caller]
    pub fn wait_for_exit(&self) -> ExitStatus {
        let mut ended = None;
        eventually("the server ends", TO_STOP, || {
            ended = self.child.lock().unwrap().try_wait().expect("the server is a child of this test");
            ended.is_some()
        });
        ended.expect("just seen")
    }

    /// Kills the server as nobody can refuse, and fails when one of its processes outlives it by `within`.
    #[track_caller]
    pub fn kill_and_expect_nothing_left(&self, within: Duration) {
        // Stopped first, so that it starts nothing between the look and the kill.
        self.process.signal(Signal::SIGSTOP);
        let family = self.process.descendants();
        self.process.kill();
        let _ = self.child.lock().unwrap().wait();
        let deadline = Instant::now() + within;
        loop {
            let left: Vec<_> = family.iter().filter(|process| process.lives()).collect();
            if left.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let left: Vec<_> = left.iter().map(|process| (process.pid, process.name())).collect();
                left.iter().for_each(|(pid, _)| {
                    if let Some(process) = Process::now(*pid) {
                        process.kill();
                    }
                });
                panic!("left behind by the killed server: {left:?}");
            }
            std::thread::yield_now();
        }
        // A process forked meanwhile, whoever made it, would still hold the server's output open.
        assert!(self.log.ended(within), "something still holds the server's outputs");
    }

    /// Kills the server and starts another on the same state.
    #[track_caller]
    pub fn restart(mut self) -> Self {
        self.kill_and_expect_nothing_left(Duration::from_secs(10));
        let home = self.home.take().expect("a server has a home until it is stopped");
        let builder = self.builder.clone();
        drop(self);
        builder.start_in(home).unwrap_or_else(|exited| panic!("the server did not start again: {exited:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.lock().is_ok_and(|mut child| matches!(child.try_wait(), Ok(Some(_))));
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}\n---", self.log());
            self.process.kill();
            if let Ok(mut child) = self.child.lock() {
                let _ = child.wait();
            }
        } else if !ended {
            self.kill_and_expect_nothing_left(Duration::from_secs(10));
        }
    }
}

impl Exited {
    /// Checks that it ended with this code by itself.
    #[track_caller]
    pub fn with_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.signal(), None, "{}", self.log);
        assert_eq!(self.status.code(), Some(code), "{}", self.log);
        self
    }

    /// Checks that one line of its log holds all of `words`.
    #[track_caller]
    pub fn and_says(&self, words: &[&str]) -> &Self {
        let said = self.log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(said, "no line with {words:?} in:\n{}", self.log);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn the_address_is_found_in_text_and_in_json() {
        let expected = Some("127.0.0.1:4242".parse().unwrap());
        for line in [
            "INFO void_supervisor: listening address=127.0.0.1:4242",
            "INFO void_supervisor: Listening address=\"127.0.0.1:4242\" version=1",
            r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4242"}}"#,
            "listening on address: 127.0.0.1:4242.5",
        ] {
            let line = line.trim_end_matches(".5");
            assert_eq!(address_in(line), expected, "{line}");
        }
        assert_eq!(address_in("INFO address=127.0.0.1:4242"), None);
        assert_eq!(address_in("listening"), None);
    }
}
