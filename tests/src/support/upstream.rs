//! A host that guests fetch from: real sockets, with or without TLS, and an answer that the test writes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it came over the socket.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Method, target and version.
    pub line: String,
    /// Header lines, as they came.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header that stands there once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = found.next();
        assert!(found.next().is_none(), "{name} stands twice: {:?}", self.headers);
        value
    }

    /// The target of the request line.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What is written into, or read from, a connection.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Answer = dyn Fn(&Asked, &mut dyn Stream) -> io::Result<()> + Send + Sync;

/// A host that listens until the test ends.
pub struct Upstream {
    /// Where.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Listens on any port of this machine.
    #[track_caller]
    pub fn start(answer: impl Fn(&Asked, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer)
    }

    /// Listens at an address.
    #[track_caller]
    pub fn at(
        address: &str,
        answer: impl Fn(&Asked, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, None, Arc::new(answer))
    }

    /// Listens at an address and speaks TLS, as every name under `.test`.
    #[track_caller]
    pub fn tls(
        address: &str,
        answer: impl Fn(&Asked, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let read = |name: &str| tls_dir().join(name);
        let chain = vec![CertificateDer::from_pem_file(read("host.pem")).expect("host.pem")];
        let key = PrivateKeyDer::from_pem_file(read("host.key")).expect("host.key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("a TLS configuration");
        Self::listen(address, Some(Arc::new(config)), Arc::new(answer))
    }

    #[track_caller]
    fn listen(address: &str, tls: Option<Arc<rustls::ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        let upstream = Self {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            connections: Arc::default(),
        };
        let (asked, connections) = (Arc::clone(&upstream.asked), Arc::clone(&upstream.connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (asked, tls, answer) = (Arc::clone(&asked), tls.clone(), Arc::clone(&answer));
                // A client that hangs up or does not like the certificate is no failure of the host.
                std::thread::spawn(move || serve(stream, tls, &asked, &*answer).ok());
            }
        });
        upstream
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with it").clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        self.address.to_string()
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    asked: &Mutex<Vec<Asked>>,
    answer: &Answer,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    match tls {
        None => exchange(&stream, asked, answer),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(connection, stream);
            exchange(&mut stream, asked, answer)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn exchange(stream: impl Read + Write, asked: &Mutex<Vec<Asked>>, answer: &Answer) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = Asked::default();
    stream.read_line(&mut request.line)?;
    request.line.truncate(request.line.trim_end().len());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        request.headers.push(line.trim_end().to_owned());
    }
    if request.line.is_empty() {
        return Ok(());
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    stream.read_exact(&mut request.body)?;
    asked.lock().expect("no test panics with it").push(request.clone());
    answer(&request, stream.get_mut())?;
    stream.get_mut().flush()
}

/// Writes an answer with a length.
pub fn reply(to: &mut dyn Stream, status: &str, headers: &[&str], body: &[u8]) -> io::Result<()> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(to, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    to.write_all(body)
}

fn tls_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tls")
}

/// The certificate that `SSL_CERT_FILE` has to name for a server that is to trust [`Upstream::tls`].
pub fn test_ca() -> String {
    tls_dir().join("ca.pem").to_str().expect("a plain path").to_owned()
}
