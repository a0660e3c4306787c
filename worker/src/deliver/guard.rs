//! The address guard: no request reaches an address that a customer's URL must not reach.
//!
//! It stands at the two places where the address of a connection is decided: the resolver that the HTTP client's connector asks,
//! so that a name cannot resolve to something else between check and use, and the URL itself when its host is an address,
//! because the connector asks no resolver then.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use actionflow_core::address::{Refused, refused};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::config::AddressPolicy;

/// A pending name resolution.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Turns a host name into addresses.
pub trait Lookup: Send + Sync + 'static {
    /// Looks the name up.
    fn lookup(&self, host: &str) -> LookupFuture;
}

/// The operating system's resolver.
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str) -> LookupFuture {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// No address of the host may be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused to connect to {host:?}: it is at a {class} address")]
pub(crate) struct AddressRefused {
    host: String,
    class: Refused,
}

/// Checks a host that is an address. Other hosts are checked when they are resolved.
pub(crate) fn check_literal(url: &Url, policy: AddressPolicy) -> Result<(), AddressRefused> {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(v4)) => v4.into(),
        Some(Host::Ipv6(v6)) => v6.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    match policy {
        AddressPolicy::PublicOnly => {
            judge(url.host_str().unwrap_or_default(), vec![address]).map(drop)
        }
        AddressPolicy::Any => Ok(()),
    }
}

/// Keeps the addresses that may be reached, or says why there is none.
fn judge(host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, AddressRefused> {
    let mut class = None;
    let allowed: Vec<IpAddr> = addresses
        .into_iter()
        .filter(|&address| match refused(address) {
            Some(refusal) => {
                class.get_or_insert(refusal);
                false
            }
            None => true,
        })
        .collect();
    match class {
        Some(class) if allowed.is_empty() => Err(AddressRefused {
            host: host.to_owned(),
            class,
        }),
        _ => Ok(allowed),
    }
}

/// The resolver of the HTTP client.
pub(crate) struct GuardedResolver {
    lookup: Arc<dyn Lookup>,
    policy: AddressPolicy,
}

impl GuardedResolver {
    pub(crate) fn new(lookup: Arc<dyn Lookup>, policy: AddressPolicy) -> Self {
        Self { lookup, policy }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.lookup.lookup(name.as_str());
        let policy = self.policy;
        Box::pin(async move {
            let addresses = found.await?;
            let allowed = match policy {
                AddressPolicy::PublicOnly => judge(name.as_str(), addresses)?,
                AddressPolicy::Any => addresses,
            };
            // Port 0 stands for that of the URL.
            let targets = allowed
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(targets) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Option<String> {
        let url = Url::parse(url).unwrap();
        check_literal(&url, AddressPolicy::PublicOnly)
            .err()
            .map(|e| e.to_string())
    }

    #[test]
    fn every_spelling_of_a_refused_address_is_refused() {
        let spellings = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://user:password@127.0.0.1/",
        ];
        for spelling in spellings {
            let error = check(spelling);
            assert!(error.is_some_and(|e| e.contains("loopback")), "{spelling}");
        }
        let error = check("http://169.254.169.254/latest/meta-data").unwrap();
        assert_eq!(
            error,
            r#"refused to connect to "169.254.169.254": it is at a cloud metadata address"#
        );
    }

    #[test]
    fn a_public_address_and_a_name_pass() {
        assert_eq!(check("https://1.1.1.1/"), None);
        assert_eq!(check("https://[2606:4700:4700::1111]/"), None);
        assert_eq!(check("https://example.com/"), None);
    }

    #[test]
    fn of_several_addresses_the_allowed_ones_are_used() {
        let public: IpAddr = "1.1.1.1".parse().unwrap();
        let private: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(judge("h", vec![private, public]).unwrap(), [public]);
        let error = judge("h", vec![private]).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"refused to connect to "h": it is at a private address"#
        );
    }

    #[test]
    fn the_policy_can_allow_everything() {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        assert!(check_literal(&url, AddressPolicy::Any).is_ok());
    }
}
