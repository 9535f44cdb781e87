//! The least HTTP that the demo needs: one request on one connection, over TCP or a Unix socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any wait that the demo asks the server for.
const PATIENCE: Duration = Duration::from_secs(40);

/// Where the server listens.
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// What came back.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body as text.
    pub(crate) body: String,
}

impl Address {
    /// Reads `host:port` or `unix:/path`. Port 0 becomes a free port, so that the address can be shown before the start.
    pub(crate) fn parse(text: &str) -> io::Result<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => Ok(Self::Tcp(TcpListener::bind(text)?.local_addr()?.to_string())),
        }
    }

    /// The program and flags with which a person reaches the address, and the URL's beginning.
    pub(crate) fn curl(&self) -> (String, String) {
        match self {
            Self::Tcp(address) => ("curl -s".to_owned(), format!("http://{address}")),
            Self::Unix(path) => {
                (format!("curl -s --unix-socket {}", path.display()), "http://localhost".to_owned())
            }
        }
    }

    /// Sends one request and reads the whole answer.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let message = [head.as_bytes(), body.as_bytes()].concat();
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &message)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &message)
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => out.write_str(address),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

fn exchange(mut stream: impl Read + Write, message: &[u8]) -> io::Result<Answer> {
    stream.write_all(message)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// The server answers with a length and closes, as asked, so that the body is what follows the head.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}
