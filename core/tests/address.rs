//! Which addresses are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actionflow_core::address::{NotNetwork, Refused, network, refused};
use proptest::prelude::*;

#[test]
fn every_special_network_is_refused_up_to_its_edges() {
    use Refused::*;
    let table = [
        ("0.0.0.0", Unspecified),
        ("0.255.255.255", Unspecified),
        ("10.0.0.0", Private),
        ("10.255.255.255", Private),
        ("172.16.0.0", Private),
        ("172.31.255.255", Private),
        ("192.168.0.1", Private),
        ("100.64.0.0", Shared),
        ("100.127.255.255", Shared),
        ("127.0.0.1", Loopback),
        ("127.255.255.255", Loopback),
        ("169.254.0.1", LinkLocal),
        ("169.254.169.254", Metadata),
        ("169.254.170.2", Metadata),
        ("100.100.100.200", Metadata),
        ("168.63.129.16", Metadata),
        ("192.0.0.8", Reserved),
        ("192.0.2.1", Documentation),
        ("198.51.100.7", Documentation),
        ("203.0.113.255", Documentation),
        ("192.88.99.1", Reserved),
        ("198.18.0.0", Benchmark),
        ("198.19.255.255", Benchmark),
        ("224.0.0.1", Multicast),
        ("239.255.255.255", Multicast),
        ("240.0.0.1", Reserved),
        ("255.255.255.254", Reserved),
        ("255.255.255.255", Broadcast),
        ("::", Unspecified),
        ("::1", Loopback),
        ("::2", Unspecified),
        ("::7f00:1", Loopback),
        ("::ffff:127.0.0.1", Loopback),
        ("::ffff:10.1.2.3", Private),
        ("::ffff:169.254.169.254", Metadata),
        ("::ffff:0:10.1.2.3", Private),
        ("64:ff9b::10.0.0.1", Private),
        ("64:ff9b::7f00:1", Loopback),
        ("64:ff9b:1::a00:1", Tunnel),
        ("2002:7f00:1::", Loopback),
        ("2002:c0a8:101::1", Private),
        ("2001::1", Tunnel),
        ("2001:2::1", Benchmark),
        ("2001:10::1", Reserved),
        ("2001:db8::1", Documentation),
        ("3fff:fff::1", Documentation),
        ("fc00::1", UniqueLocal),
        ("fdff::1", UniqueLocal),
        ("fec0::1", UniqueLocal),
        ("fd00:ec2::254", Metadata),
        ("fe80::1", LinkLocal),
        ("febf::1", LinkLocal),
        ("ff02::1", Multicast),
        ("100::1", Reserved),
        ("4000::1", Reserved),
        ("5f00::1", Reserved),
    ];
    for (address, class) in table {
        let parsed: IpAddr = address.parse().expect("an address");
        assert_eq!(refused(parsed), Some(class), "{address}");
    }
}

#[test]
fn public_addresses_are_allowed_right_beside_the_special_networks() {
    let table = [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "3fff:1000::1",
    ];
    for address in table {
        let parsed: IpAddr = address.parse().expect("an address");
        assert_eq!(refused(parsed), None, "{address}");
    }
}

proptest! {
    #[test]
    fn a_v4_address_inside_v6_is_judged_as_itself(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from(bits);
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let forms = [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ];
        for form in forms {
            prop_assert_eq!(refused(IpAddr::V6(form)), refused(IpAddr::V4(v4)), "{}", form);
        }
    }

    #[test]
    fn only_global_unicast_is_ever_allowed_in_v6(bits in any::<u128>()) {
        let v6 = Ipv6Addr::from(bits);
        if v6.segments()[0] >> 13 != 1 && v6.segments()[0] != 0 && v6.segments()[0] != 0x64 {
            prop_assert!(refused(IpAddr::V6(v6)).is_some(), "{}", v6);
        }
    }
}

#[test]
fn a_network_has_no_bits_right_of_its_mask() {
    for (text, expected) in [
        ("1.0.0.0/8", Ok("1.0.0.0/8")),
        ("1.2.3.4", Ok("1.2.3.4/32")),
        ("1.2.3.4/32", Ok("1.2.3.4/32")),
        ("0.0.0.0/0", Ok("0.0.0.0/0")),
        ("2001:db8::5", Ok("2001:db8::5/128")),
        ("::ffff:192.0.2.0/120", Ok("192.0.2.0/24")),
        ("1.2.3.4/8", Err(Some("1.0.0.0/8"))),
        ("1.2.3.4/0", Err(Some("0.0.0.0/0"))),
        ("2001:db8::5/32", Err(Some("2001:db8::/32"))),
        ("::ffff:192.0.2.7/120", Err(Some("192.0.2.0/24"))),
        ("1.2.3.4/33", Err(None)),
        ("1.2.3/8", Err(None)),
        ("example.com", Err(None)),
    ] {
        let found = network(text);
        match (expected, found) {
            (Ok(expected), Ok(found)) => assert_eq!(found.to_string(), expected),
            (Err(Some(meant)), Err(NotNetwork::HostBits(found))) => {
                assert_eq!(found.to_string(), meant);
            }
            (Err(None), Err(NotNetwork::Unreadable)) => {}
            (_, found) => panic!("{text}: {found:?}"),
        }
    }
}
