//! One connection to the service: TCP, TLS over TCP, or a Unix socket.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::failure::Failure;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects, or says why not and what to do.
pub(crate) async fn open(address: &Address) -> Result<Box<dyn Stream>, Failure> {
    match tokio::time::timeout(CONNECT, connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Failure::Unreachable(explain(address, &error))),
        Err(_) => Err(Failure::Unreachable(format!(
            "{address} does not answer within {} s: check the address and the network, or name another with --server",
            CONNECT.as_secs()
        ))),
    }
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp { tls, host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            if *tls { Ok(Box::new(encrypt(host, stream).await?)) } else { Ok(Box::new(stream)) }
        }
    }
}

/// TLS with the system's certificates (or `SSL_CERT_FILE`'s), as other commands on the machine use them.
async fn encrypt(host: &str, stream: TcpStream) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(io::Error::other(
            "this machine has no certificates to check it against: install ca-certificates",
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn explain(address: &Address, error: &io::Error) -> String {
    match (address, error.kind()) {
        (Address::Unix(_), ErrorKind::NotFound) => format!(
            "{address}: there is no such socket: start the service there (WASM_LISTEN={address}), or name another with \
             --server or VOID_WASM_SERVER"
        ),
        (Address::Unix(_), ErrorKind::PermissionDenied) => {
            format!("{address}: your user may not open this socket: join the group that owns it")
        }
        (_, ErrorKind::ConnectionRefused) => format!(
            "nothing listens at {address}: start the service (`cargo xtask demo`, or `systemctl start void-wasm`), or \
             name another with --server or VOID_WASM_SERVER"
        ),
        _ => {
            format!("{address} cannot be reached ({error}): check the address, or name another with --server")
        }
    }
}
