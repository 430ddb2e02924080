//! Whose request it is, as far as the network tells: the peer's address, or the one that trusted proxies pass on.
//!
//! What a client writes into forwarding headers is believed of nobody. The list of hops is walked from its end, where the
//! nearest proxy wrote, past the proxies that are trusted; the first address that is none of them is the client's. A proxy
//! that knows only one of the two headers passes on the other as the client wrote it: where both are there and disagree,
//! neither counts.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// More hops than any chain of proxies has: what stands before them is not looked at.
const MAX_HOPS: usize = 32;

/// The address that a request comes from; an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

/// The client speaks TLS, with us or with a proxy that we trust; an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverTls(pub bool);

/// The networks whose hosts are believed when they say on whose behalf they ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether an address is a trusted proxy's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind a peer.
    pub fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return ClientAddress(peer);
        }
        let values = |name: &HeaderName| {
            let values = headers.get_all(name).iter().rev().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.rsplit(',')).take(MAX_HOPS).map(str::trim)
        };
        let plain = headers.contains_key(X_FORWARDED_FOR).then(|| self.walk(peer, values(&X_FORWARDED_FOR).map(node)));
        let formal = headers
            .contains_key(FORWARDED)
            .then(|| self.walk(peer, values(&FORWARDED).map(|hop| for_parameter(hop).and_then(node))));
        ClientAddress(match (plain, formal) {
            (Some(one), Some(other)) if one != other => peer,
            (Some(client), _) | (None, Some(client)) => client,
            (None, None) => peer,
        })
    }

    /// Whether a trusted peer says that its client speaks TLS with it.
    pub fn vouches_for_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let said = |name: &HeaderName| {
            let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next().map(str::trim)
        };
        let plain = || said(&X_FORWARDED_PROTO).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let formal = || said(&FORWARDED).and_then(|hop| parameter(hop, "proto"));
        self.contains(peer) && (plain() || formal().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")))
    }

    /// Walks from the nearest hop to the farthest, as far as trusted proxies vouch for what is there.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut reached = peer;
        for hop in hops {
            // A hop that hides itself or cannot be read: the proxy that told of it is as far as we see.
            let Some(hop) = hop else { break };
            reached = hop;
            if !self.contains(hop) {
                break;
            }
        }
        reached
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&networks.join(", "))
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let networks = texts.iter().map(|text| network(text));
        networks.collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

/// A network, or the address of one host.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("`{text}` is no network such as 10.0.0.0/8 and no address"))
}

/// The value of `for` in one element of `Forwarded`.
fn for_parameter(element: &str) -> Option<&str> {
    parameter(element, "for")
}

/// A parameter's value in one element of `Forwarded`.
fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address with or without a port, IPv6 in brackets where there is one.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(bracketed).or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        TrustedProxies(networks.iter().map(|text| network(text).unwrap()).collect())
    }

    #[track_caller]
    fn check(peer: &str, headers: &[(&str, &str)], client: &str) {
        let proxies = trusted(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), axum::http::HeaderValue::from_str(value).unwrap())
        });
        let mut map = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            map.append(name, value);
        });
        let found = proxies.client_of(peer.parse().unwrap(), &map);
        assert_eq!(found.0.to_string(), client, "{peer} {headers:?}");
    }

    #[test]
    fn nobody_but_trusted_proxies_is_believed() {
        check("203.0.113.5", &[], "203.0.113.5");
        check("203.0.113.5", &[("x-forwarded-for", "198.51.100.1")], "203.0.113.5");
        check("::ffff:203.0.113.5", &[("forwarded", "for=198.51.100.1")], "203.0.113.5");
        check("10.1.1.1", &[], "10.1.1.1");
        check("::ffff:10.1.1.1", &[("x-forwarded-for", "198.51.100.1")], "198.51.100.1");
    }

    #[test]
    fn hops_are_walked_from_the_right_past_trusted_proxies() {
        let hops = |value| [("x-forwarded-for", value)];
        check("10.1.1.1", &hops("198.51.100.1"), "198.51.100.1");
        check("10.1.1.1", &hops("1.1.1.1, 198.51.100.1"), "198.51.100.1");
        check("10.1.1.1", &hops("1.1.1.1,198.51.100.1 , 192.0.2.7,10.9.9.9"), "198.51.100.1");
        check("10.1.1.1", &hops("10.3.3.3, 10.2.2.2"), "10.3.3.3");
        check("10.1.1.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1");
        check("10.1.1.1", &[("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "10.2.2.2")], "198.51.100.1");
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk() {
        for value in ["unknown", "_hidden", "", "198.51.100.1.1", "localhost", "10.2.2.2 198.51.100.1", "2130706433"] {
            check("10.1.1.1", &[("x-forwarded-for", value)], "10.1.1.1");
            check("10.1.1.1", &[("x-forwarded-for", &format!("9.9.9.9, {value}, 10.2.2.2"))], "10.2.2.2");
        }
        let endless = vec!["10.2.2.2"; 1_000].join(",");
        check("10.1.1.1", &[("x-forwarded-for", &format!("198.51.100.1,{endless}"))], "10.2.2.2");
    }

    #[test]
    fn addresses_may_have_ports_and_brackets() {
        for (text, client) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            check("fd00::1", &[("x-forwarded-for", text)], client);
            check("fd00::1", &[("forwarded", &format!("for=\"{text}\""))], client);
        }
    }

    #[test]
    fn forwarded_is_read_with_all_its_parameters() {
        let hops = |value| [("forwarded", value)];
        check("10.1.1.1", &hops("for=198.51.100.1"), "198.51.100.1");
        check("10.1.1.1", &hops("proto=https;For=\"198.51.100.1:80\";by=10.1.1.1"), "198.51.100.1");
        check("10.1.1.1", &hops("for=1.1.1.1, for=198.51.100.1;proto=http, for=10.2.2.2"), "198.51.100.1");
        check("10.1.1.1", &hops("proto=https"), "10.1.1.1");
        check("10.1.1.1", &hops("for=_secret, for=10.2.2.2"), "10.2.2.2");
    }

    #[test]
    fn headers_that_disagree_are_not_believed() {
        let both = |plain, formal| [("x-forwarded-for", plain), ("forwarded", formal)];
        check("10.1.1.1", &both("198.51.100.1", "for=198.51.100.1"), "198.51.100.1");
        check("10.1.1.1", &both("198.51.100.1", "for=198.51.100.2"), "10.1.1.1");
        check("10.1.1.1", &both("198.51.100.1", "for=nobody"), "10.1.1.1");
    }

    #[test]
    fn only_trusted_proxies_are_believed_to_have_spoken_tls() {
        let proxies = trusted(&["10.0.0.0/8"]);
        let told = |peer: &str, name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
            proxies.vouches_for_tls(peer.parse().unwrap(), &headers)
        };
        for (peer, name, value, expected) in [
            ("10.1.1.1", "x-forwarded-proto", "https", true),
            ("10.1.1.1", "x-forwarded-proto", "http", false),
            ("10.1.1.1", "x-forwarded-proto", "https, http", false),
            ("10.1.1.1", "forwarded", "for=198.51.100.1;Proto=\"HTTPS\"", true),
            ("10.1.1.1", "forwarded", "for=198.51.100.1;proto=https, for=10.2.2.2;proto=http", false),
            ("203.0.113.5", "x-forwarded-proto", "https", false),
            ("203.0.113.5", "forwarded", "proto=https", false),
        ] {
            assert_eq!(told(peer, name, value), expected, "{peer} {name}: {value}");
        }
    }

    #[test]
    fn networks_are_read_from_settings() {
        let read = |json: &str| serde_json::from_str::<TrustedProxies>(json).map_err(|error| error.to_string());
        assert_eq!(
            read(r#"["10.0.0.0/8", "192.0.2.7", "fd00::/8"]"#).unwrap().to_string(),
            "10.0.0.0/8, 192.0.2.7/32, fd00::/8"
        );
        assert!(read(r#"["10.0.0.0/33"]"#).unwrap_err().contains("`10.0.0.0/33` is no network"));
        assert!(!read("[]").unwrap().contains("127.0.0.1".parse().unwrap()));
    }
}
