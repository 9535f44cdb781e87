//! Which IP addresses a guest may be connected to: the globally reachable unicast ones, and no others.
//!
//! The table follows IANA's special-purpose address registries for IPv4 and IPv6. Forms that carry an IPv4 address inside
//! an IPv6 one are refused whole: what they translate to is decided by a router that this service does not know. Of IPv6
//! only 2000::/3 is handed out as global unicast; everything outside it is refused even where no range names it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public. The words are fixed and few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special(&'static str);

impl Special {
    /// What the address is for, such as `private`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

struct V4(Ipv4Addr, u32, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32, what: &'static str) -> V4 {
    V4(Ipv4Addr::new(a, b, c, d), bits, what)
}

const V4_RANGES: &[V4] = &[
    v4(0, 0, 0, 0, 32, "unspecified"),
    v4(0, 0, 0, 0, 8, "this network"),
    v4(10, 0, 0, 0, 8, "private"),
    v4(100, 64, 0, 0, 10, "carrier-grade NAT"),
    v4(127, 0, 0, 0, 8, "loopback"),
    v4(169, 254, 0, 0, 16, "link-local"),
    v4(172, 16, 0, 0, 12, "private"),
    v4(192, 0, 0, 0, 24, "protocol assignment"),
    v4(192, 0, 2, 0, 24, "documentation"),
    v4(192, 88, 99, 0, 24, "6to4 relay"),
    v4(192, 168, 0, 0, 16, "private"),
    v4(198, 18, 0, 0, 15, "benchmarking"),
    v4(198, 51, 100, 0, 24, "documentation"),
    v4(203, 0, 113, 0, 24, "documentation"),
    v4(224, 0, 0, 0, 4, "multicast"),
    v4(255, 255, 255, 255, 32, "broadcast"),
    v4(240, 0, 0, 0, 4, "reserved"),
];

struct V6(Ipv6Addr, u32, &'static str);

/// The first four groups; the others are zero.
const fn v6(a: u16, b: u16, c: u16, d: u16, bits: u32, what: &'static str) -> V6 {
    V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), bits, what)
}

const V6_RANGES: &[V6] = &[
    v6(0, 0, 0, 0, 128, "unspecified"),
    V6(Ipv6Addr::LOCALHOST, 128, "loopback"),
    V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4-mapped"),
    V6(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, "IPv4-translated"),
    v6(0, 0, 0, 0, 96, "IPv4-compatible"),
    v6(0x64, 0xff9b, 0, 0, 96, "NAT64"),
    v6(0x64, 0xff9b, 1, 0, 48, "NAT64"),
    v6(0x100, 0, 0, 0, 64, "discard"),
    v6(0x2001, 0, 0, 0, 32, "Teredo"),
    v6(0x2001, 2, 0, 0, 48, "benchmarking"),
    v6(0x2001, 0xdb8, 0, 0, 32, "documentation"),
    v6(0x2001, 0, 0, 0, 23, "protocol assignment"),
    v6(0x2002, 0, 0, 0, 16, "6to4"),
    v6(0x3fff, 0, 0, 0, 20, "documentation"),
    v6(0xfc00, 0, 0, 0, 7, "unique local"),
    v6(0xfe80, 0, 0, 0, 10, "link-local"),
    v6(0xfec0, 0, 0, 0, 10, "site-local"),
    v6(0xff00, 0, 0, 0, 8, "multicast"),
];

/// What an address is, if it is not public. The first range that holds it names it.
#[must_use]
pub fn special(ip: IpAddr) -> Option<Special> {
    let what = match ip {
        IpAddr::V4(ip) => {
            V4_RANGES
                .iter()
                .find(|V4(net, bits, _)| {
                    let differ = ip.to_bits() ^ net.to_bits();
                    differ.leading_zeros() >= *bits
                })?
                .2
        }
        IpAddr::V6(ip) => {
            let named = V6_RANGES.iter().find(|V6(net, bits, _)| {
                let differ = ip.to_bits() ^ net.to_bits();
                differ.leading_zeros() >= *bits
            });
            match named {
                Some(V6(_, _, what)) => what,
                None if ip.to_bits() >> 125 == 1 => return None,
                None => "outside global unicast",
            }
        }
    };
    Some(Special(what))
}

/// Whether the address is globally reachable unicast.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    special(ip).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_and_last_of_each_range_and_their_neighbours() {
        for (first, last, what) in [
            ("0.0.0.1", "0.255.255.255", "this network"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("169.254.0.0", "169.254.255.255", "link-local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.0.0.0", "192.0.0.255", "protocol assignment"),
            ("192.0.2.0", "192.0.2.255", "documentation"),
            ("192.88.99.0", "192.88.99.255", "6to4 relay"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "benchmarking"),
            ("198.51.100.0", "198.51.100.255", "documentation"),
            ("203.0.113.0", "203.0.113.255", "documentation"),
            ("224.0.0.0", "239.255.255.255", "multicast"),
            ("240.0.0.0", "255.255.255.254", "reserved"),
            ("255.255.255.255", "255.255.255.255", "broadcast"),
            ("0.0.0.0", "0.0.0.0", "unspecified"),
            ("::", "::", "unspecified"),
            ("::1", "::1", "loopback"),
            ("::2", "::255.255.255.255", "IPv4-compatible"),
            ("::ffff:0.0.0.0", "::ffff:255.255.255.255", "IPv4-mapped"),
            ("::ffff:8.8.8.8", "::ffff:127.0.0.1", "IPv4-mapped"),
            ("::ffff:0:0:0", "::ffff:0:ffff:ffff", "IPv4-translated"),
            ("64:ff9b::", "64:ff9b::ffff:ffff", "NAT64"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "NAT64"),
            ("100::", "100::ffff:ffff:ffff:ffff", "discard"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking"),
            ("2001:10::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "protocol assignment"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "unique local"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
            ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "outside global unicast"),
            ("5f00::", "64:ff9b:2::", "outside global unicast"),
        ] {
            for ip in [first, last] {
                assert_eq!(special(ip.parse().unwrap()), Some(Special(what)), "{ip}");
            }
        }
        for public in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.114.0",
            "223.255.255.255",
            "2000::",
            "2001:200::",
            "2001:db7::",
            "2001:db9::",
            "2001:4860:4860::8888",
            "2003::",
            "2606:4700::1",
            "3ffe:ffff::",
            "3fff:1000::",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library_where_that_has_an_opinion(v4: u32, v6: u128) {
            let ip = Ipv4Addr::from_bits(v4);
            if ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast() || ip.is_documentation() {
                prop_assert!(!is_public(ip.into()));
            }
            // No public address of IPv4 becomes reachable in a mapped form.
            prop_assert!(!is_public(ip.to_ipv6_mapped().into()) && !is_public(ip.to_ipv6_compatible().into()));
            let ip = Ipv6Addr::from_bits(v6);
            if ip.is_multicast() || ip.is_unique_local() || ip.is_unicast_link_local() {
                prop_assert!(!is_public(ip.into()));
            }
        }
    }
}
