//! A `void-supervisor` started for a chore: its output kept, its end awaited, never left behind.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of output kept, for the case that the server dies.
const LAST_LINES: usize = 20;
/// How long a drain may take: the runs' wall budget, and the store's last commit.
const DRAIN: Duration = Duration::from_secs(20);

/// A running server, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    shown: Arc<AtomicBool>,
}

impl Server {
    /// Starts the program with these variables and none of the caller's own settings.
    pub(crate) fn start(program: &Path, settings: &[(&str, String)]) -> Result<Self, String> {
        let mut command = dying_with_us(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["WASM_", "FNPM_"].iter().any(|own| name.starts_with(own)) || name == "PORT" {
                command.env_remove(name.as_ref());
            }
        }
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C reaches this program alone, which then stops the server in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child =
            command.spawn().map_err(|error| format!("{}: cannot be started: {error}", program.display()))?;
        let (lines, shown) = (Arc::default(), Arc::default());
        if let Some(output) = child.stdout.take() {
            relay(output, &lines, &shown);
        }
        if let Some(output) = child.stderr.take() {
            relay(output, &lines, &shown);
        }
        Ok(Self { child, lines, shown })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| format!("the server cannot be watched: {error}"))
    }

    /// From now on its output is shown as it comes.
    pub(crate) fn show(&self) {
        self.shown.store(true, Ordering::Relaxed);
    }

    /// The last lines of its output.
    pub(crate) fn last_lines(&self) -> String {
        // What a dying process wrote is on its way through the relay for a moment.
        thread::sleep(Duration::from_millis(100));
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("   | {line}\n")).collect()
    }

    /// Asks it to drain and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        match self.end()? {
            status if status.success() => Ok(()),
            status => Err(format!(
                "the server was asked to stop and ended with {status}; its last lines:\n{}",
                self.last_lines()
            )),
        }
    }

    fn end(&mut self) -> Result<ExitStatus, String> {
        let unwatchable = |error| format!("the server cannot be watched: {error}");
        if let Some(status) = self.child.try_wait().map_err(unwatchable)? {
            return Ok(status);
        }
        let pid = i32::try_from(self.child.id())
            .map_err(|_| "the server's process id is out of range".to_owned())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .map_err(|error| format!("the server cannot be signalled: {error}"))?;
        let asked = Instant::now();
        while asked.elapsed() < DRAIN {
            if let Some(status) = self.child.try_wait().map_err(unwatchable)? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().map_err(|error| format!("the server cannot be killed: {error}"))?;
        self.child.wait().map_err(unwatchable)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever way the chore ends; a second stop finds it ended.
        let _ = self.end();
    }
}

/// The program, started so that the kernel ends it should this program be killed without warning.
fn dying_with_us(program: &Path) -> Command {
    let setpriv =
        Command::new("setpriv").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if setpriv.is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

fn relay(output: impl Read + Send + 'static, lines: &Arc<Mutex<VecDeque<String>>>, shown: &Arc<AtomicBool>) {
    let (lines, shown) = (Arc::clone(lines), Arc::clone(shown));
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if shown.load(Ordering::Relaxed) {
                eprintln!("{line}");
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LAST_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}
