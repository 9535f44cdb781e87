//! Where requests come in, and whether only this machine can reach it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::read::Reader;

/// The default port.
const PORT: u16 = 3456;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A host name or address, and a port; 0 lets the kernel pick one.
    Tcp {
        /// IPv6 without its brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// A socket that was passed in.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }

    /// Reads `host:port`, `[v6]:port` or `unix:/path`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            // The kernel's limit for a socket's path is 108 bytes with the NUL that ends it.
            let fits = path.starts_with('/') && path.len() < 108 && !path.contains('\0');
            return fits.then(|| Self::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok())?,
            None => host,
        };
        // Without brackets a colon would belong to the address or to the port; a name has none.
        let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let bracketed = text.starts_with('[');
        (!host.is_empty() && (bracketed || is_name)).then(|| Self::Tcp { host: host.to_owned(), port })
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let port = reader.number("PORT", PORT, 0..=u16::MAX);
        let default = Self::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port };
        let accepted = "host:port, [v6 address]:port, or unix: and an absolute path of at most 107 bytes";
        reader.value("WASM_LISTEN", default, accepted, Self::parse)
    }

    /// Whether only this machine can connect. A name other than `localhost` may resolve to anything, and is not local.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}
