//! Another process that holds the lock of a server's database.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::server::Server;

const PYTHON: &str = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],isolation_level=None)\n\
                      c.execute('BEGIN IMMEDIATE')\nprint('locked',flush=True)\nsys.stdin.read()\n";

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct DatabaseLock(Child);

impl DatabaseLock {
    /// Whether there is anything here to lock a database with; the reason why not is printed.
    pub fn is_possible() -> bool {
        let python = Command::new("python3").args(["-c", "import sqlite3"]).status();
        let is_possible = python.is_ok_and(|status| status.success());
        if !is_possible {
            eprintln!("SKIPPED: there is no python3 with sqlite3 to lock the database with");
        }
        is_possible
    }

    /// Takes it.
    pub fn take(server: &Server) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PYTHON])
            .arg(server.home().join("state/void.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 can be executed");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for DatabaseLock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
