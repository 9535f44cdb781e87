//! The two programs that are measured: started for the measurement alone, and ended with it.

use std::fs;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the service may take to prove its isolation and to take runs.
const START: Duration = Duration::from_secs(60);

/// A running server. Dropped, it is asked to stop and waited for.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// The floor: `void-echo` from `binaries`.
    ///
    /// # Errors
    /// It cannot be started, or does not say where it listens.
    pub(crate) fn echo(binaries: &Path) -> Result<Server> {
        let mut child = spawn(Command::new(binaries.join("void-echo")).stdout(Stdio::piped()))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(Error::other);
        // Held first, so that it ends when the address is none.
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        server.address = address?;
        Ok(server)
    }

    /// The service: `void-supervisor` from `binaries` as it is shipped, with its state in `state` and switched on.
    ///
    /// # Errors
    /// It does not start, with the last lines of its log, or it is not ready in time.
    pub(crate) fn service(binaries: &Path, manifests: &Path, state: &Path) -> Result<Server> {
        Server::service_with(binaries, manifests, state, &[])
    }

    /// As [`Server::service`], with these settings.
    ///
    /// # Errors
    /// As for [`Server::service`].
    pub(crate) fn service_with(
        binaries: &Path,
        manifests: &Path,
        state: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Server> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = state.join("log");
        let mut command = Command::new(binaries.join("void-supervisor"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["WASM_", "FNPM_"].iter().any(|own| text.starts_with(own)) || text == "PORT" {
                command.env_remove(&name);
            }
        }
        command
            .env("WASM_EXEC_ENABLED", "1")
            .env("WASM_EXEC_CANARY", "1")
            .env("WASM_LISTEN", address.to_string())
            .env("WASM_STATE_DIR", state.join("state"))
            .env("FNPM_MANIFEST_DIRS", manifests)
            .env("FNPM_CACHE_DIR", state.join("modules"))
            .env("FNPM_HTTP_GATEWAYS", "")
            .envs(settings.iter().copied());
        let (out, errors) = (fs::File::create(&log)?, fs::OpenOptions::new().append(true).open(&log)?);
        let mut server = Server { child: spawn(command.stdout(out).stderr(errors))?, address };
        let begin = Instant::now();
        loop {
            let ended = server.child.try_wait()?;
            if ended.is_none()
                && server.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
            {
                return Ok(server);
            }
            if ended.is_some() || begin.elapsed() > START {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::other(format!("the service does not take runs; its log:\n{log}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole answer to a plain GET.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(START))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).spawn().map_err(|error| {
        let program = Path::new(command.get_program()).display().to_string();
        let hint = if error.kind() == ErrorKind::NotFound { ": build it with cargo xtask bench" } else { "" };
        Error::new(error.kind(), format!("{program} cannot be started ({error}){hint}"))
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself; then there is nobody to ask.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}
