//! Addresses that a webhook may come from.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::address;
use crate::input::{Error, Place};

/// More is a firewall's work.
const MAX_NETWORKS: usize = 1_000;
const HINT: &str =
    "Give addresses such as 203.0.113.9, or networks such as 203.0.113.0/24 and 2001:db8::/32.";

/// Networks that a webhook may come from; none means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// Parses an array of addresses and networks.
    pub(super) fn parse(value: &Value, place: &Place) -> Result<Self, Error> {
        let list = value
            .as_array()
            .ok_or_else(|| place.wrong_type("an array of addresses and networks", value))?;
        if list.len() > MAX_NETWORKS {
            return Err(place.unusable(format!("more than {MAX_NETWORKS} networks"), HINT));
        }
        let networks = list.iter().enumerate().map(|(index, network)| {
            let place = place.index(index);
            let text = network
                .as_str()
                .ok_or_else(|| place.wrong_type("an address or a network", network))?;
            address::network(text)
                .map_err(|error| place.unusable(format!("\"{text}\" {error}"), HINT))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request from this address is let in; one from nowhere is only when the list is empty.
    #[must_use]
    pub fn permits(&self, address: Option<IpAddr>) -> bool {
        self.0.is_empty()
            || address.is_some_and(|address| {
                let address = address.to_canonical();
                self.0.iter().any(|network| network.contains(&address))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(value: &Value) -> Result<AllowList, String> {
        AllowList::parse(value, &Place::root("options")).map_err(|error| error.to_string())
    }

    #[test]
    fn t24_addresses_and_networks_of_both_families_are_let_in_and_others_not() {
        let allowed = list(&json!([
            "203.0.113.9",
            "198.51.100.0/24",
            "2001:db8::/32",
            "::ffff:192.0.2.0/120"
        ]))
        .expect("valid");
        let permits = |address: &str| allowed.permits(Some(address.parse().expect("an address")));
        for address in [
            "203.0.113.9",
            "::ffff:203.0.113.9",
            "198.51.100.255",
            "2001:db8::1",
            "192.0.2.7",
            "::ffff:192.0.2.7",
        ] {
            assert!(permits(address), "{address}");
        }
        for address in [
            "203.0.113.10",
            "198.51.101.0",
            "2001:db9::1",
            "::203.0.113.9",
            "192.0.3.0",
        ] {
            assert!(!permits(address), "{address}");
        }
        assert!(!allowed.permits(None), "from nowhere");
    }

    #[test]
    fn t24_an_empty_list_lets_everybody_in() {
        let allowed = list(&json!([])).expect("valid");
        assert!(allowed.permits(None));
        assert!(allowed.permits("2001:db8::1".parse().ok()));
    }

    #[test]
    fn t24_what_is_no_network_is_refused() {
        for (value, text) in [
            (json!("203.0.113.9"), "expected an array"),
            (json!([7]), "expected an address or a network"),
            (
                json!(["203.0.113.0/33"]),
                "\"203.0.113.0/33\" is no network",
            ),
            (json!(["example.com"]), "\"example.com\" is no network"),
            (json!(["::ffff:0:0/8"]), "\"::ffff:0:0/8\" is no network"),
            (
                json!(["203.0.113.0/24", "1.2.3.4/8"]),
                "\"1.2.3.4/8\" is no network: it has bits right of the mask, and the network of that mask is 1.0.0.0/8",
            ),
        ] {
            let error = list(&value).expect_err("must be refused");
            assert!(error.contains(text), "{error}");
        }
    }
}
