//! `WASM_HTTP_ALLOWLIST`: which hosts a guest may reach.
//!
//! An entry is `host` (at the default port of http or https only), `host:port`, or `*.host` (its subdomains at the default
//! port, not `host` itself). A host is a name or an IP address, IPv6 in brackets. Hosts are normalised as URLs are, so
//! that `EXAMPLE.com` and an IP in a trick form are what a URL with them would be. No entries: nothing may be reached.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use url::{Host, Url};
use void_api::clip;

/// A host as entries and URLs are compared by: normalised, without the dot that may end a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostKey {
    Name(String),
    Ip(IpAddr),
}

impl HostKey {
    pub(crate) fn of<S: AsRef<str>>(host: &Host<S>) -> Option<Self> {
        match host {
            Host::Domain(name) => {
                let name = name.as_ref();
                let name = name.strip_suffix('.').unwrap_or(name);
                // No name of the DNS has an empty label, and no host's has anything but these: the URL standard lets more
                // through, and what a resolver makes of it is its own affair.
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                let fits = |label: &str| !label.is_empty() && label.bytes().all(plain);
                name.split('.').all(fits).then(|| Self::Name(name.to_owned()))
            }
            Host::Ipv4(ip) => Some(Self::Ip(IpAddr::V4(*ip))),
            Host::Ipv6(ip) => Some(Self::Ip(IpAddr::V6(*ip))),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::of(&Host::parse(text).ok()?)
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A host with a port, or with the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: HostKey,
    /// `None` is the default port of http or https.
    pub(crate) port: Option<u16>,
}

impl Place {
    /// Reads `host` or `host:port`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // A colon outside brackets can only begin a port.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(parse_port(port)?)),
            _ => (text, None),
        };
        // What a host may not hold is left to the URL standard, except what it would decode or cut.
        if host.is_empty() || host.contains(['%', '/', '@', '?', '#', '\\', '*']) {
            return None;
        }
        Some(Self { host: HostKey::parse(host)?, port })
    }

    /// Whether a URL with this host is at this place.
    pub(crate) fn holds(&self, host: &HostKey, url: &Url) -> bool {
        self.host == *host
            && match self.port {
                None => url.port().is_none(),
                Some(port) => url.port_or_known_default() == Some(port),
            }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.host.fmt(f),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Place(Place),
    /// `.host`: what a subdomain ends with.
    Under(String),
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            None => Place::parse(text).map(Self::Place),
            Some(parent) => match Place::parse(parent)? {
                Place { host: HostKey::Name(name), port: None } => Some(Self::Under(format!(".{name}"))),
                _ => None,
            },
        }
    }

    fn grants(&self, host: &HostKey, url: &Url) -> Option<Reach> {
        match (self, host) {
            (Self::Place(place), _) if place.holds(host, url) => {
                // A port or an IP address names one service; a bare name is whatever its DNS says today.
                let literal = place.port.is_some() || matches!(host, HostKey::Ip(_));
                Some(if literal { Reach::Anywhere } else { Reach::Public })
            }
            (Self::Under(suffix), HostKey::Name(name)) => {
                let below = name.len() > suffix.len() && name.ends_with(suffix.as_str());
                (below && url.port().is_none()).then_some(Reach::Public)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Under(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Which addresses a granted host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Public ones only.
    Public,
    /// Any: the operator named this IP address or this host and port literally.
    Anywhere,
}

/// The entries, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowlist(Vec<Rule>);

/// An entry that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not host, host:port or *.host")]
pub struct AllowlistError(String);

impl Allowlist {
    /// Reads the comma separated list; spaces around entries and empty entries do not count.
    ///
    /// # Errors
    /// The first entry that is not understood.
    pub fn parse(text: &str) -> Result<Self, AllowlistError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let rules =
            entries.map(|entry| Rule::parse(entry).ok_or_else(|| AllowlistError(clip(entry).to_string())));
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing may be reached.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the entries together grant to a URL with this host.
    pub(crate) fn reach(&self, host: &HostKey, url: &Url) -> Option<Reach> {
        self.0.iter().filter_map(|rule| rule.grants(host, url)).max()
    }

    /// The addresses that the entries name, as far as their port is this URL's.
    pub(crate) fn addresses(&self, url: &Url) -> impl Iterator<Item = IpAddr> {
        self.0.iter().filter_map(|rule| match rule {
            Rule::Place(place @ Place { host: HostKey::Ip(ip), .. }) => {
                place.holds(&place.host, url).then_some(*ip)
            }
            _ => None,
        })
    }
}

impl fmt::Display for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, rule)| {
            if i > 0 {
                f.write_str(",")?;
            }
            rule.fmt(f)
        })
    }
}

impl Serialize for Allowlist {
    /// A list of its entries.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reach(list: &str, url: &str) -> Option<Reach> {
        let url = Url::parse(url).unwrap();
        let host = HostKey::of(&url.host().unwrap())?;
        Allowlist::parse(list).unwrap().reach(&host, &url)
    }

    #[test]
    fn entries_match_what_they_name_and_no_more() {
        use Reach::{Anywhere, Public};
        for (list, url, expected) in [
            ("", "https://example.com/", None),
            ("example.com", "https://example.com/", Some(Public)),
            ("example.com", "http://example.com/", Some(Public)),
            ("example.com", "https://EXAMPLE.com:443/x", Some(Public)),
            ("Example.COM.", "https://example.com/", Some(Public)),
            ("example.com", "https://example.com./", Some(Public)),
            ("example.com", "http://example.com:443/", None),
            ("example.com", "https://example.com:8443/", None),
            ("example.com", "https://a.example.com/", None),
            ("example.com", "https://example.com.evil.net/", None),
            ("example.com", "https://notexample.com/", None),
            ("*.example.com", "https://a.example.com/", Some(Public)),
            ("*.example.com", "https://a.b.example.com/", Some(Public)),
            ("*.example.com", "https://example.com/", None),
            ("*.example.com", "https://.example.com/", None),
            ("*.example.com", "https://notexample.com/", None),
            ("*.example.com", "https://*.example.com/", None),
            ("*.example.com", "https://a'b.example.com/", None),
            ("*.example.com", "https://a.example.com:8443/", None),
            ("example.com:8443", "https://example.com:8443/", Some(Anywhere)),
            ("example.com:8443", "http://example.com:8443/", Some(Anywhere)),
            ("example.com:8443", "https://example.com/", None),
            ("example.com:443", "https://example.com/", Some(Anywhere)),
            ("a.com, b.com,", "https://b.com/", Some(Public)),
            ("10.0.0.5", "http://10.0.0.5/", Some(Anywhere)),
            ("10.0.0.5", "http://0xa.5/", Some(Anywhere)),
            ("10.0.0.5", "http://10.0.0.5:8080/", None),
            ("[::1]:8080", "http://[0:0::1]:8080/", Some(Anywhere)),
            ("bücher.de", "https://xn--bcher-kva.de/", Some(Public)),
            ("example.com, example.com:443", "https://example.com/", Some(Anywhere)),
            // A mapped address is another host than the address that it maps.
            ("10.0.0.5", "http://[::ffff:10.0.0.5]/", None),
        ] {
            assert_eq!(reach(list, url), expected, "{list} {url}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for bad in [
            "*",
            "*.",
            "*.*.com",
            "a.*.com",
            "*.1.2.3.4",
            "*.com:443",
            "https://a.com",
            "a.com/x",
            "u@a.com",
            "a.com:",
            "a.com:0",
            "a.com:65536",
            "a.com:+1",
            ":80",
            "::1",
            "a b.com",
            "a.com:80:80",
            "[::1",
            "%61.com",
            ".",
            "..",
            "a..b",
        ] {
            assert!(Allowlist::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_judged_without_panic_and_prints_to_itself(text in "[a-z0-9.*:\\[\\], -]{0,30}|.*") {
            if let Ok(list) = Allowlist::parse(&text) {
                prop_assert_eq!(Allowlist::parse(&list.to_string()), Ok(list));
            }
        }
    }
}
