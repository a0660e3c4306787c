//! Where a request came from, when proxies stand before the worker.

use std::net::IpAddr;

use actionflow_core::address;
use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;

use super::forwarded::{X_FORWARDED_FOR, forwarded, x_forwarded_for};

/// The proxies whose word about the sender's address is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks (`10.0.0.0/8`), separated by commas. An empty text means none.
    ///
    /// # Errors
    /// The first part that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim);
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The address that a request came from: the connection's other side, unless that is a trusted proxy. Then it is the last
    /// address in `Forwarded`, or else in `X-Forwarded-For`, that is no trusted proxy.
    ///
    /// `None` is an unknown address: the element that should name the client is unreadable, or both headers are there and
    /// differ, because a proxy writes one of them and passes the other on as the sender wrote it. The proxy's own address
    /// would be no answer, since a list of allowed networks may contain it.
    #[must_use]
    pub fn source(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Some(peer);
        }
        let forwarded = headers
            .contains_key(FORWARDED)
            .then(|| self.first_untrusted(peer, forwarded(headers)));
        let x_forwarded_for = headers
            .contains_key(X_FORWARDED_FOR)
            .then(|| self.first_untrusted(peer, x_forwarded_for(headers)));
        match (forwarded, x_forwarded_for) {
            (Some(address), Some(other)) if address != other => None,
            (Some(address), _) | (None, Some(address)) => address,
            (None, None) => Some(peer),
        }
    }

    fn first_untrusted(
        &self,
        peer: IpAddr,
        hops: impl Iterator<Item = Option<IpAddr>>,
    ) -> Option<IpAddr> {
        let mut nearest = peer;
        for hop in hops {
            nearest = hop?.to_canonical();
            if !self.trusts(nearest) {
                break;
            }
        }
        Some(nearest)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    address::network(text).map_err(|error| format!("\"{text}\" {error}"))
}
