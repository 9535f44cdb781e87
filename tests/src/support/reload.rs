//! Settings in a file, and the reload that reads it again.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::{NamedTempFile, TempDir};

use super::server::Server;

/// The file that `WASM_ENV_FILE` names.
pub struct EnvFile(NamedTempFile);

impl EnvFile {
    /// A file with these lines.
    pub fn new(lines: &[&str]) -> Self {
        let file = Self(NamedTempFile::new().expect("a temporary file"));
        file.write(lines);
        file
    }

    /// Replaces its lines.
    pub fn write(&self, lines: &[&str]) {
        let mut file = std::fs::File::create(self.0.path()).expect("the file of settings");
        file.write_all((lines.join("\n") + "\n").as_bytes()).expect("written");
    }

    /// Its path.
    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("a plain path")
    }
}

impl Server {
    /// Sends SIGHUP and waits until the reload is done, by its count. Whether it took effect.
    #[track_caller]
    pub fn reload(&self) -> bool {
        let count = |outcome| self.metrics().sum("void_wasm_reloads_total", &[("outcome", outcome)]);
        let before = (count("applied"), count("refused"));
        self.signal(Signal::SIGHUP);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = (count("applied"), count("refused"));
            if now != before {
                return now.0 > before.0;
            }
            assert!(Instant::now() < deadline, "no reload: {}", self.log());
        }
    }
}

/// What systemd would hear (`sd_notify`).
pub struct Notified {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Notified {
    /// A socket to hear on.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { socket, folder }
    }

    /// For `NOTIFY_SOCKET`.
    pub fn path(&self) -> String {
        self.folder.path().join("notify").to_str().expect("a plain path").to_owned()
    }

    /// Waits for a message that holds `word` as a line, and returns the whole of it.
    #[track_caller]
    pub fn hears(&self, word: &str) -> String {
        self.socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut message = [0; 4096];
        loop {
            let length = self.socket.recv(&mut message).unwrap_or_else(|e| panic!("never heard {word}: {e}"));
            let text = String::from_utf8_lossy(&message[..length]);
            if text.lines().any(|line| line == word) {
                return text.into_owned();
            }
        }
    }

    /// Whether everything that was said has been heard.
    pub fn is_silent(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let silent = self.socket.recv(&mut [0; 4096]).is_err();
        self.socket.set_nonblocking(false).expect("a socket");
        silent
    }
}

impl Default for Notified {
    fn default() -> Self {
        Self::new()
    }
}
