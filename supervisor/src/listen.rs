//! Sockets that requests come in by: TCP, Unix, or passed by systemd. What is said on them is not known here.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::socket::{AddressFamily, Backlog, SockaddrLike, SockaddrStorage, getsockname, listen};
use void_policy::Settings;
use void_policy::settings::Listen;

use crate::stream::StdStream;

/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// Its owner and group may connect to a Unix socket; whom the group admits is the operator's choice.
const SOCKET_MODE: u32 = 0o660;

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The address cannot be had.
    #[error("{address} cannot be listened on: {source}; set WASM_LISTEN to a free address")]
    Address {
        /// As configured.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody answers on that path.
    #[error("{address} is in use by another program; stop it or set WASM_LISTEN to another path")]
    InUse {
        /// As configured.
        address: String,
    },
    /// systemd passed something else.
    #[error(
        "descriptor {number} passed by systemd cannot be accepted on: {source}; give ListenStream= in the socket unit"
    )]
    Passed {
        /// The descriptor.
        number: i32,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Everyone could come in.
    #[error(
        "{address} can be reached from other machines: set WASM_API_TOKENS_FILE, or listen on a loopback address or a Unix socket"
    )]
    Open {
        /// The socket's address.
        address: String,
    },
}

/// A socket that is listened on. Dropping it ends that, and removes a Unix socket that was made here.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    address: String,
    local: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, made: Option<PathBuf> },
}

/// Listens on the sockets that systemd passed, or else on `WASM_LISTEN`. None of them blocks.
///
/// # Errors
/// An address that cannot be had, or one that other machines reach although there are no tokens.
pub(crate) fn bind(settings: &Settings) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = passed()?;
    if listeners.is_empty() {
        listeners = match &settings.listen {
            Listen::Tcp { host, port } => bind_tcp(host, *port, &settings.listen.to_string())?,
            Listen::Unix(path) => vec![bind_unix(path)?],
        };
    }
    match listeners.iter().find(|listener| !listener.local) {
        Some(open) if settings.api_tokens_file.is_none() => {
            Err(ListenError::Open { address: open.address.clone() })
        }
        _ => Ok(listeners),
    }
}

fn passed() -> Result<Vec<Listener>, ListenError> {
    let mut given = ListenFd::from_env();
    (0..given.len())
        .zip(FIRST_PASSED..)
        .map(|(index, number)| {
            take(&mut given, index, number).map_err(|source| ListenError::Passed { number, source })
        })
        .collect()
}

fn take(given: &mut ListenFd, index: usize, number: i32) -> io::Result<Listener> {
    let gone = || io::Error::from(ErrorKind::NotFound);
    let family = getsockname::<SockaddrStorage>(number)?.family();
    if family == Some(AddressFamily::Unix) {
        let listener = given.take_unix_listener(index)?.ok_or_else(gone)?;
        let address = match listener.local_addr()?.as_pathname() {
            Some(path) => format!("unix:{}", path.display()),
            None => "unix:".to_owned(),
        };
        listener.set_nonblocking(true)?;
        return Ok(Listener { socket: Socket::Unix { listener, made: None }, address, local: true });
    }
    tcp(given.take_tcp_listener(index)?.ok_or_else(gone)?)
}

fn tcp(listener: TcpListener) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let local = Listen::of(address).is_local();
    Ok(Listener { socket: Socket::Tcp(listener), address: address.to_string(), local })
}

/// A name may have several addresses, and each is listened on: a client may try any of them.
fn bind_tcp(host: &str, port: u16, address: &str) -> Result<Vec<Listener>, ListenError> {
    let failed = |source| ListenError::Address { address: address.to_owned(), source };
    let mut port = port;
    let mut listeners = Vec::new();
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for mut at in (host, port).to_socket_addrs().map_err(failed)?.collect::<Vec<SocketAddr>>() {
        // All of them on the port that the kernel picked for the first.
        at.set_port(port);
        match TcpListener::bind(at).and_then(deepen).and_then(tcp) {
            Ok(listener) => {
                if let Socket::Tcp(bound) = &listener.socket {
                    port = bound.local_addr().map_err(failed)?.port();
                }
                listeners.push(listener);
            }
            // A machine without IPv6 may still have a name with an IPv6 address.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => last = error,
            Err(error) => return Err(failed(error)),
        }
    }
    if listeners.is_empty() { Err(failed(last)) } else { Ok(listeners) }
}

/// The standard library asks for a backlog that a burst of clients overflows; asking again replaces it.
fn deepen(listener: TcpListener) -> io::Result<TcpListener> {
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

fn bind_unix(path: &Path) -> Result<Listener, ListenError> {
    let address = format!("unix:{}", path.display());
    let failed = |source| ListenError::Address { address: address.clone(), source };
    let left_behind = fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    if left_behind {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?
            }
            _ => return Err(ListenError::InUse { address }),
        }
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    listen(&listener, Backlog::new(BACKLOG).map_err(|error| failed(error.into()))?)
        .map_err(|error| failed(error.into()))?;
    Ok(Listener { socket: Socket::Unix { listener, made: Some(path.to_owned()) }, address, local: true })
}

impl Listener {
    /// The next connection and who is at its other end; [`ErrorKind::WouldBlock`] where nobody waits.
    pub(crate) fn accept(&self) -> io::Result<(StdStream, String)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok((StdStream::Tcp(stream), peer.to_string()))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((StdStream::Unix(stream), "unix".to_owned()))
            }
        }
    }

    /// Where clients connect: `127.0.0.1:3456`, or `unix:/path`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }
}

impl AsFd for Listener {
    /// Readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { made: Some(path), .. } = &self.socket {
            // Whoever took its place since is not known; a path that is gone is as wanted.
            let _ = fs::remove_file(path);
        }
    }
}
