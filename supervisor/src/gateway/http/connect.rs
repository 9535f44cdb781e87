//! Sending one request to one of the addresses that were judged, and to no other.
//!
//! Each request has a client of its own, which knows one name and its addresses, asks no resolver, no proxy and no pool,
//! and follows no redirect. For an address in the URL the client asks no resolver at all; it then can only connect to that
//! very address. Whatever it did, where the connection went is compared with the permit before the answer is looked at.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Response};
use rustls::{ClientConfig, RootCertStore};
use void_ipc::message::Refusal;
use void_policy::judge::{ConnectPermit, FetchPermit, Outgoing};

use super::{body, encoding};
use crate::metrics::Fetches;

/// What a host is told of who asks, where the guest says nothing.
const AGENT: &str = concat!("void-wasm/", env!("CARGO_PKG_VERSION"));

/// What all connections share: whom TLS trusts.
#[derive(Debug, Default)]
pub(super) struct Connector(Mutex<Trust>);

/// The certificates of this machine, as far as they are known.
#[derive(Debug, Default)]
enum Trust {
    #[default]
    Unread,
    /// There were none when they were last looked for, which was said.
    Missing,
    Known(Box<ClientConfig>),
}

impl Connector {
    /// What a connection for this scheme needs of TLS. One in the clear needs none, and must not fail for want of
    /// certificates; certificates that were not there are looked for again.
    fn tls(&self, scheme: &str) -> Result<ClientConfig, Refusal> {
        if scheme != "https" {
            return config(RootCertStore::empty()).ok_or(Refusal::Unavailable);
        }
        let mut trust = self.0.lock();
        if let Trust::Known(known) = &*trust {
            return Ok(ClientConfig::clone(known));
        }
        if let Some(found) = trusted().and_then(config) {
            *trust = Trust::Known(Box::new(found.clone()));
            return Ok(found);
        }
        // A guest can have this happen as often as it likes: the log has it once.
        if !matches!(*trust, Trust::Missing) {
            tracing::error!(
                "this machine trusts no certificates (SSL_CERT_FILE, or a package such as ca-certificates): guests cannot fetch by https"
            );
        }
        *trust = Trust::Missing;
        Err(Refusal::Unavailable)
    }

    /// Sends the request, and waits for the head of its answer.
    ///
    /// # Errors
    /// Why there is none, as far as the guest may know.
    pub(super) async fn send(
        &self,
        permit: &FetchPermit,
        outgoing: &Outgoing,
        connect: &ConnectPermit,
        fetches: &Fetches,
    ) -> Result<Response, Refusal> {
        let tls = self.tls(permit.url().scheme())?;
        let client = client(tls, permit, connect).map_err(|error| {
            tracing::error!(%error, "no HTTP client for a guest's request");
            Refusal::Unavailable
        })?;
        let method = Method::from_bytes(permit.method().as_bytes()).map_err(|_| Refusal::Invalid)?;
        let mut request = client.request(method, permit.url().clone()).headers(headers(outgoing)?);
        if permit.body().is_empty() {
            // RFC 9110, 8.6: where a body means something, its absence is said. Some hosts wait for one otherwise.
            if matches!(permit.method(), "POST" | "PUT" | "PATCH") {
                request = request.header(CONTENT_LENGTH, 0);
            }
        } else {
            fetches.sent(permit.body().len());
            request = request.body(permit.body().to_vec());
        }
        let response = request.send().await.map_err(|error| why(&error))?;
        match response.remote_addr() {
            Some(peer) if connect.addresses().contains(&plain(peer)) => Ok(response),
            peer => {
                tracing::error!(
                    ?peer,
                    "a guest's request went to an address that was not judged; its answer was dropped"
                );
                Err(Refusal::Unreachable)
            }
        }
    }
}

/// Without the scope and flow that belong to this machine's view of an address.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn headers(outgoing: &Outgoing) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding::ACCEPTED));
    let guests_own = outgoing.fields().iter().any(|(name, _)| name == USER_AGENT.as_str());
    if guests_own {
        headers.remove(USER_AGENT);
    }
    for (name, value) in outgoing.fields() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::Invalid)?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| Refusal::Invalid)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn client(tls: ClientConfig, permit: &FetchPermit, connect: &ConnectPermit) -> reqwest::Result<Client> {
    let known =
        Known { name: permit.name().unwrap_or_default().to_owned(), addresses: connect.addresses().to_vec() };
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // See `encoding`: the client would undo one of them, and hide that there was one.
        .no_gzip()
        .no_deflate()
        .no_brotli()
        .no_zstd()
        .http1_only()
        .http1_max_headers(body::HEADERS_MAX)
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(known))
        .build()
}

/// A resolver that knows one name.
struct Known {
    name: String,
    addresses: Vec<SocketAddr>,
}

impl Resolve for Known {
    fn resolve(&self, name: Name) -> Resolving {
        let found =
            if name.as_str().eq_ignore_ascii_case(&self.name) { self.addresses.clone() } else { Vec::new() };
        Box::pin(async move {
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// The certificates that this machine trusts, if there are any.
fn trusted() -> Option<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    (good > 0).then_some(roots)
}

/// TLS that trusts these.
fn config(roots: RootCertStore) -> Option<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.ok()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(config)
}

/// A failed request, as far as a guest may know. The log has the causes, which do not repeat the URL.
pub(super) fn why(error: &reqwest::Error) -> Refusal {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        tracing::debug!(causes = %void_api::clip(&causes.join(": ")), "a guest's request failed");
    }
    if error.is_timeout() { Refusal::TimedOut } else { Refusal::Unreachable }
}
