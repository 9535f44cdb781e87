//! Where the service is, as `--server` or `VOID_WASM_SERVER` gives it.

use std::fmt;
use std::path::PathBuf;

use hyper::Uri;

use crate::failure::Failure;

/// A parsed server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http://` or `https://`.
    Tcp {
        /// Over TLS.
        tls: bool,
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
        /// What precedes every path, without a slash at its end.
        prefix: String,
    },
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `http://host:port`, `https://host`, `host:port` or `unix:/path`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(refuse(text)) };
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| refuse(text))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse(text)),
        };
        let host = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()).unwrap_or_default();
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if host.is_empty() || has_user || uri.query().is_some() {
            return Err(refuse(text));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self::Tcp { tls, host, port, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The `Host` header.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// A path of the API as this server has it.
    pub(crate) fn path(&self, path: &str) -> String {
        match self {
            Self::Tcp { prefix, .. } => format!("{prefix}{path}"),
            Self::Unix(_) => path.to_owned(),
        }
    }

    /// Whether what is sent can be read on the way.
    pub(crate) fn is_readable_on_the_way(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tcp { tls: true, .. } => false,
            Self::Tcp { host, .. } => {
                host != "localhost" && !host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls, prefix, .. } => {
                write!(out, "{}://{}{prefix}", if *tls { "https" } else { "http" }, self.host_header())
            }
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

fn refuse(text: &str) -> Failure {
    Failure::Usage(format!(
        "--server {}: not an address of a service; give http://HOST:PORT, https://HOST or unix:/PATH",
        void_api::clip(text)
    ))
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn the_forms_that_people_write() {
        for (text, shown) in [
            ("http://127.0.0.1:3456", "http://127.0.0.1:3456"),
            ("http://localhost:3456/", "http://localhost:3456"),
            ("localhost:3456", "http://localhost:3456"),
            ("https://wasm.example.org/api/", "https://wasm.example.org:443/api"),
            ("http://[::1]:3456", "http://[::1]:3456"),
            ("unix:/run/void-wasm.sock", "unix:/run/void-wasm.sock"),
            ("unix:///run/void-wasm.sock", "unix:/run/void-wasm.sock"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in
            ["", "ftp://a", "http://", "http://user:pass@a", "unix:relative", "http://a?b=c", "http://a b"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_safe_on_this_machine_and_under_tls() {
        let readable = |text: &str| Address::parse(text).unwrap().is_readable_on_the_way();
        assert!(!readable("http://127.0.0.1:1") && !readable("http://[::1]:1") && !readable("https://a"));
        assert!(readable("http://example.org") && readable("http://10.0.0.1:1"));
    }
}
