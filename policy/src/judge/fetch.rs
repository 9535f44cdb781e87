//! Judging `http.fetch`: the URL against the allowlist, the request's form, the rate, each redirect, and the addresses that
//! the host resolves to. Resolving and connecting are the gateway's.
//!
//! The URL is parsed once, by the URL standard, which also turns trick forms of hosts (hex, octal, a single number,
//! percent-encoding, full-width digits) into what they mean. That parsed URL is judged, and it is what the permit carries:
//! nothing is parsed a second time by someone with another opinion.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};
use void_api::{CallKind, clip};

use super::headers::{self, Field};
use super::{Denial, Rule, Terms};
use crate::address;
use crate::allowlist::{HostKey, Reach};
use crate::rate::HttpRates;
use crate::secrets::{Redactor, Secrets};

/// Redirects that one fetch follows.
pub const REDIRECTS_MAX: u8 = 5;
pub(super) const URL_MAX_BYTES: usize = 8192;
/// Addresses of one request that are tried; more are of no use.
const CONNECT_MAX: usize = 8;
pub(super) const BODY_MAX_BYTES: usize = 131_072;

/// Methods that a guest may use. CONNECT and TRACE are not requests for a resource.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Headers by which a guest could have a secret's echo in pieces too small to be recognised.
const PIECE_HEADERS: &[&str] = &["range", "if-range"];

/// A request as a guest asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchAsk {
    /// Upper or lower case.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Names and values; a value may have any bytes that are no control characters.
    pub headers: Vec<Field>,
    /// The body; empty is none.
    pub body: Vec<u8>,
}

/// A request that may be sent, to addresses that [`FetchPermit::connect`] permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPermit {
    method: &'static str,
    url: Url,
    host: HostKey,
    headers: Vec<Field>,
    body: Vec<u8>,
    reach: Reach,
    /// Addresses that are not public and may be connected to all the same: the allowlist names them, at this port.
    named: Vec<IpAddr>,
    max_bytes: u32,
    hops: u8,
    /// It was never redirected to another scheme, host or port.
    at_home: bool,
}

/// The header fields of one request, the operator's secrets among them.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    fields: Vec<Field>,
    secrets: Vec<(String, String)>,
}

impl Outgoing {
    /// Names in lower case, and values.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Those among them whose values the guest must not see: names in lower case, and values.
    #[must_use]
    pub fn secrets(&self) -> &[(String, String)] {
        &self.secrets
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| name).collect();
        f.debug_struct("Outgoing").field("fields", &names).finish_non_exhaustive()
    }
}

/// Addresses that may be connected to for one request.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectPermit(Vec<SocketAddr>);

impl ConnectPermit {
    /// At least one and at most eight, in the order in which they were resolved.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }
}

pub(super) fn deny(rule: Rule, reason: String, remedy: impl Into<String>) -> Denial {
    Denial::new(CallKind::HttpFetch, rule, reason, remedy)
}

pub(super) fn not_a_method(reason: String) -> Denial {
    deny(Rule::Method, reason, format!("use one of {}", METHODS.join(", ")))
}

pub(super) fn judge(
    terms: Terms<'_>,
    rates: &HttpRates,
    now_ns: u64,
    ask: FetchAsk,
) -> Result<FetchPermit, Denial> {
    let method = METHODS
        .iter()
        .find(|known| known.eq_ignore_ascii_case(&ask.method))
        .ok_or_else(|| not_a_method(format!("the method is \"{}\"", clip(&ask.method))))?;
    let headers = headers::judge(ask.headers)?;
    if ask.body.len() > BODY_MAX_BYTES {
        let what = "the request's body";
        return Err(Denial::too_large(CallKind::HttpFetch, what, ask.body.len(), BODY_MAX_BYTES, None));
    }
    let Place { url, host, reach, named } = judge_url(terms, &ask.url, parse(&ask.url, None)?)?;
    take_rate(terms, rates, now_ns, &host)?;
    let (body, max_bytes) = (ask.body, terms.grants.http.max_bytes);
    Ok(FetchPermit { method, url, host, headers, body, reach, named, max_bytes, hops: 0, at_home: true })
}

fn parse(text: &str, base: Option<&Url>) -> Result<Url, Denial> {
    let bad = |what: &str| {
        deny(Rule::BadUrl, format!("\"{}\" {what}", clip(text)), "give an absolute http:// or https:// URL")
    };
    if text.len() > URL_MAX_BYTES {
        return Err(bad(&format!("has more than {URL_MAX_BYTES} bytes")));
    }
    let mut url = Url::options().base_url(base).parse(text).map_err(|_| bad("is not a URL"))?;
    // Not sent anyway; and so the URL that is judged is the one that is sent.
    url.set_fragment(None);
    Ok(url)
}

/// A URL that is in the allowlist.
struct Place {
    url: Url,
    host: HostKey,
    reach: Reach,
    named: Vec<IpAddr>,
}

fn judge_url(terms: Terms<'_>, text: &str, url: Url) -> Result<Place, Denial> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(deny(
            Rule::Scheme,
            format!("the scheme is \"{}\"", clip(url.scheme())),
            "use http or https",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let remedy =
            "leave user and password out of the URL; the operator can add them by WASM_HTTP_SECRETS_FILE";
        return Err(deny(Rule::UserInfo, "the URL has a user or a password".to_owned(), remedy));
    }
    let host = url.host().and_then(|host| HostKey::of(&host)).ok_or_else(|| {
        deny(
            Rule::BadUrl,
            format!("\"{}\" has no host", clip(text)),
            "give an absolute http:// or https:// URL",
        )
    })?;
    let allowlist = &terms.grants.http.allowlist;
    match allowlist.reach(&host, &url) {
        Some(reach) => {
            let named = allowlist.addresses(&url).collect();
            Ok(Place { url, host, reach, named })
        }
        None => {
            let entry = match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_string(),
            };
            let reason = format!("\"{}\" is not in the allowlist", clip(&entry));
            // No entry can name it, and nobody can listen there.
            let remedy = match url.port() {
                Some(0) => "give a port from 1 to 65535".to_owned(),
                _ => format!("add {} to WASM_HTTP_ALLOWLIST", clip(&entry)),
            };
            Err(deny(Rule::HostNotAllowed, reason, remedy))
        }
    }
}

fn take_rate(terms: Terms<'_>, rates: &HttpRates, now_ns: u64, host: &HostKey) -> Result<(), Denial> {
    let http = &terms.grants.http;
    rates.take(terms.tenant, &host.to_string(), now_ns, http.rps, http.burst).map_err(|wait| {
        let ms = wait.ns.div_ceil(1_000_000);
        deny(
            Rule::HostRate,
            format!("more than {} requests a second to \"{}\"", http.rps, clip(&host.to_string())),
            format!("wait {ms} ms, or raise WASM_HTTP_RPS or WASM_HTTP_BURST"),
        )
    })
}

impl FetchPermit {
    /// Upper case.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.method
    }

    /// Without user, password and fragment.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The guest's header fields: names in lower case, and values. What is sent is [`FetchPermit::outgoing`].
    #[must_use]
    pub fn headers(&self) -> &[Field] {
        &self.headers
    }

    /// The header fields to send: the guest's, and over them the secrets of this place, as long as no redirect has led away
    /// from where the guest asked: whom a host sends the service to is not for that host to pay with another's secret.
    ///
    /// # Errors
    /// The guest asks for a piece of an answer that may echo a secret.
    pub fn outgoing(&self, secrets: &Secrets) -> Result<Outgoing, Denial> {
        let added: Vec<(&str, &str)> =
            if self.at_home { secrets.headers_for(&self.url).collect() } else { Vec::new() };
        let piece = self.headers.iter().find(|(name, _)| PIECE_HEADERS.contains(&name.as_str()));
        if let (Some((name, _)), false) = (piece, added.is_empty()) {
            let reason = format!("the header \"{name}\" may not be set for a host that has a secret");
            return Err(deny(Rule::Secret, reason, "ask for the whole answer"));
        }
        let replaced = |name: &str| added.iter().any(|(own, _)| *own == name);
        let guests = self.headers.iter().filter(|(name, _)| !replaced(name)).cloned();
        let own = added.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        Ok(Outgoing {
            fields: guests.chain(own).collect(),
            secrets: added.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
    }

    /// A secret would go to whom it does not belong; and no text may say where to, for the secret would stand in it.
    fn secret_in_redirect(&self) -> Denial {
        let reason =
            format!("\"{}\" answers with a redirect that carries its secret", clip(&self.host.to_string()));
        deny(Rule::Secret, reason, "ask for the final address")
    }

    /// The denial of an answer that may echo a secret and cannot be searched for it.
    pub fn secret_unsearchable(&self, encoding: &str) -> Denial {
        let host = self.host.to_string();
        let reason =
            format!("\"{}\" has a secret and answers encoded with \"{}\"", clip(&host), clip(encoding));
        deny(Rule::Secret, reason, "have the host answer plainly, or with gzip or deflate alone")
    }

    /// The body; empty is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of the response's body, after decompression.
    #[must_use]
    pub const fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    /// Redirects that were followed to get here.
    #[must_use]
    pub const fn hops(&self) -> u8 {
        self.hops
    }

    /// The address in the URL itself; then there is nothing to resolve, and it goes to [`FetchPermit::connect`] as it is.
    #[must_use]
    pub const fn literal(&self) -> Option<IpAddr> {
        match self.host {
            HostKey::Ip(ip) => Some(ip),
            HostKey::Name(_) => None,
        }
    }

    /// The name to resolve.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self.url.host() {
            Some(Host::Domain(name)) => Some(name),
            _ => None,
        }
    }

    /// Judges all addresses that the host resolved to. One that is not public refuses them all: an answer that mixes them
    /// is no accident. The first few may then be connected to.
    ///
    /// # Errors
    /// There is no address, or one is not public and the allowlist names neither it nor this host and port.
    pub fn connect(&self, resolved: &[IpAddr]) -> Result<ConnectPermit, Denial> {
        let host = || clip(&self.host.to_string()).to_string();
        if resolved.is_empty() {
            let reason = format!("\"{}\" has no address", host());
            return Err(deny(Rule::AddressNotPublic, reason, "give a host that resolves"));
        }
        let open = |ip: &IpAddr| self.reach == Reach::Anywhere || self.named.contains(ip);
        if let Some((ip, special)) = resolved.iter().find_map(|ip| {
            let special = address::special(*ip)?;
            (!open(ip)).then_some((ip, special))
        }) {
            let reason = format!("\"{}\" resolves to {ip}, which is {}", host(), special.as_str());
            let remedy =
                format!("add {}:{} to WASM_HTTP_ALLOWLIST if guests may reach it", host(), self.port());
            return Err(deny(Rule::AddressNotPublic, reason, remedy));
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for ip in resolved {
            let address = SocketAddr::new(*ip, self.port());
            if addresses.len() < CONNECT_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(ConnectPermit(addresses))
    }

    fn port(&self) -> u16 {
        // Both permitted schemes have a default.
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Judges a redirect as a request of its own: the URL, the host, the rate. `status` is the response's (301, 302, 303,
    /// 307 or 308) and `location` its header. As clients do: 303, and 301 and 302 after POST, go on with GET and without
    /// body; credentials of the guest do not go to another origin. `sent` has the secrets that were sent on the way here:
    /// none may stand in the address, neither as it came nor as it is read.
    ///
    /// # Errors
    /// It is the sixth, carries a secret, or its URL would be refused by itself.
    pub fn redirect(
        &self,
        terms: Terms<'_>,
        rates: &HttpRates,
        now_ns: u64,
        status: u16,
        location: &str,
        sent: &Redactor,
    ) -> Result<Self, Denial> {
        if sent.finds(location.as_bytes()) {
            return Err(self.secret_in_redirect());
        }
        if self.hops >= REDIRECTS_MAX {
            let reason = format!("more than {REDIRECTS_MAX} redirects");
            return Err(deny(Rule::TooManyRedirects, reason, "ask for the final address"));
        }
        let url = parse(location, Some(&self.url))?;
        // The URL standard takes line breaks out, and makes plain letters of others that look like them.
        if sent.finds(url.as_str().as_bytes()) {
            return Err(self.secret_in_redirect());
        }
        let Place { url, host, reach, named } = judge_url(terms, location, url)?;
        take_rate(terms, rates, now_ns, &host)?;
        let becomes_get = (status == 303 && self.method != "HEAD")
            || (matches!(status, 301 | 302) && self.method == "POST");
        let same_origin = self.url.origin() == url.origin();
        let kept = |name: &str| {
            (same_origin || !matches!(name, "authorization" | "cookie"))
                && !(becomes_get && name.starts_with("content-"))
        };
        Ok(Self {
            method: if becomes_get { "GET" } else { self.method },
            headers: self.headers.iter().filter(|(name, _)| kept(name)).cloned().collect(),
            body: if becomes_get { Vec::new() } else { self.body.clone() },
            url,
            host,
            reach,
            named,
            max_bytes: self.max_bytes,
            hops: self.hops + 1,
            at_home: self.at_home && same_origin,
        })
    }
}
