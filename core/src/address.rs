//! Which IP addresses a request to a customer-given URL must not reach.
//!
//! Everything that is not an ordinary public unicast address is refused: what the IANA special-purpose registries list as
//! not globally reachable, and every IPv6 form that carries an IPv4 address, judged by the address inside. And how people write
//! the networks that they trust.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// 0.0.0.0/8 and `::`: this host.
    Unspecified,
    /// 127.0.0.0/8 and `::1`.
    Loopback,
    /// RFC 1918 networks.
    Private,
    /// `fc00::/7`, and the deprecated `fec0::/10`.
    UniqueLocal,
    /// 169.254.0.0/16 and `fe80::/10`.
    LinkLocal,
    /// 100.64.0.0/10, behind a carrier's NAT.
    Shared,
    /// The addresses at which clouds serve credentials to their machines.
    Metadata,
    /// 224.0.0.0/4 and `ff00::/8`.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// Networks set aside for documentation.
    Documentation,
    /// Networks set aside for benchmarks between devices.
    Benchmark,
    /// Teredo and local NAT64 prefixes: the packet can end at an address that the prefix does not show.
    Tunnel,
    /// Anything else that is not global unicast.
    Reserved,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::UniqueLocal => "unique local",
            Self::LinkLocal => "link-local",
            Self::Shared => "carrier-grade NAT",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Tunnel => "tunnel",
            Self::Reserved => "reserved",
        })
    }
}

/// Why this address is refused, or `None` for an ordinary public one.
#[must_use]
pub fn refused(address: IpAddr) -> Option<Refused> {
    match address {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6),
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<Refused> {
    Some(match address.octets() {
        // Before link-local, so that the more telling class is named. Azure's is public by number, and reaches the host.
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] | [168, 63, 129, 16] => {
            Refused::Metadata
        }
        [0, ..] => Refused::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Refused::Private,
        [100, 64..=127, ..] => Refused::Shared,
        [127, ..] => Refused::Loopback,
        [169, 254, ..] => Refused::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Refused::Documentation,
        [198, 18..=19, ..] => Refused::Benchmark,
        // IETF protocol assignments, and the anycast relay of 6to4.
        [192, 0, 0, _] | [192, 88, 99, _] => Refused::Reserved,
        [224..=239, ..] => Refused::Multicast,
        [255, 255, 255, 255] => Refused::Broadcast,
        [240..=255, ..] => Refused::Reserved,
        _ => return None,
    })
}

fn refused_v6(address: Ipv6Addr) -> Option<Refused> {
    if let Some(inner) = embedded_v4(address) {
        return refused_v4(inner);
    }
    let [a, b, c, ..] = address.segments();
    Some(match a {
        _ if address.is_unspecified() => Refused::Unspecified,
        _ if address.is_loopback() => Refused::Loopback,
        _ if METADATA_V6.contains(&address) => Refused::Metadata,
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Refused::UniqueLocal,
        0xfe80..=0xfebf => Refused::LinkLocal,
        0xff00..=0xffff => Refused::Multicast,
        0x2001 if b == 0xdb8 => Refused::Documentation,
        0x3fff if b < 0x1000 => Refused::Documentation,
        0x2001 if b == 2 && c == 0 => Refused::Benchmark,
        0x2001 if b == 0 => Refused::Tunnel,
        // The rest of 2001::/23: protocol assignments.
        0x2001 if b < 0x200 => Refused::Reserved,
        // The local-use prefix of NAT64: the embedded address may stand anywhere in it.
        0x64 if b == 0xff9b => Refused::Tunnel,
        // Only 2000::/3 is global unicast.
        0x2000..=0x3fff => return None,
        _ => Refused::Reserved,
    })
}

/// The metadata services of AWS and GCP over IPv6.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// The IPv4 address that a mapped, compatible, translated, NAT64 or 6to4 address stands for.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // `::` and `::1` have classes of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Why a text is no network, as what follows the text in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNetwork {
    /// Occurs when the text is neither an address nor a network.
    #[error("is no network")]
    Unreadable,
    /// Occurs when the address has bits right of the mask, which Postgres' type `cidr` refuses as well: who writes `192.0.2.4/8`
    /// may mean one address, and would name 16 million.
    #[error("is no network: it has bits right of the mask, and the network of that mask is {0}")]
    HostBits(IpNet),
}

/// An address, or a network such as `203.0.113.0/24`.
///
/// IPv4 inside IPv6 (`::ffff:0:0/96`) is IPv4: addresses are compared in that form, so networks must be in it, too.
///
/// # Errors
/// When the text is neither, or a network with bits right of its mask.
pub fn network(text: &str) -> Result<IpNet, NotNetwork> {
    let network = readable_network(text).ok_or(NotNetwork::Unreadable)?;
    match network.trunc() {
        meant if meant == network => Ok(network),
        meant => Err(NotNetwork::HostBits(meant)),
    }
}

fn readable_network(text: &str) -> Option<IpNet> {
    const MAPPED_BITS: u8 = 96;
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    match network.addr().to_canonical() {
        address @ IpAddr::V4(_) if network.addr().is_ipv6() => {
            IpNet::new(address, network.prefix_len().checked_sub(MAPPED_BITS)?).ok()
        }
        _ => Some(network),
    }
}
