//! The two headers in which proxies say for whom they act, read from the right end: each hop adds at the end, so what stands
//! there is the word of the hop that we know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};

/// What most proxies send instead of `Forwarded`.
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The addresses of `Forwarded` (RFC 7239) from the last to the first; `None` for an element without a readable address.
///
/// Elements are told apart at every comma, also one inside quotes. An address has none, so what an earlier hop or a sender has
/// put into quotes cannot swallow the elements after it; at worst an element is not readable.
pub(super) fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    elements(headers, FORWARDED).map(|element| forwarded_for(element?))
}

/// The addresses of `X-Forwarded-For` from the last to the first; `None` for an element that is none.
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    elements(headers, X_FORWARDED_FOR).map(|element| node(element?))
}

/// The elements of a header, all its lines taken together, from the last to the first.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Option<&str>> {
    let lines: Vec<Option<&str>> = headers
        .get_all(name)
        .iter()
        .map(|line| line.to_str().ok())
        .collect();
    lines.into_iter().rev().flat_map(|line| {
        // A line that is not ASCII is one unreadable element.
        let parts: Vec<Option<&str>> = match line {
            Some(line) => line.rsplit(',').map(|part| Some(trim(part))).collect(),
            None => vec![None],
        };
        parts
    })
}

/// The address in an element's `for`. Every pair of the element must be well-formed, so that half of a quoted text is taken for
/// nothing.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = trim(pair).split_once('=')?;
        let value = unquoted(value)?;
        if !is_token(name) || (name.eq_ignore_ascii_case("for") && found.replace(value).is_some()) {
            return None;
        }
    }
    node(found?)
}

/// The value of a pair: a token, or the inside of quotes. Escapes are not undone: an address needs none.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        None => is_token(value).then_some(value),
        Some(rest) => rest
            .strip_suffix('"')
            .filter(|inside| !inside.contains(['"', '\\'])),
    }
}

fn is_token(text: &str) -> bool {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    // Beyond the grammar: some proxies write an IPv4 address with a port, or an IPv6 address, without quotes.
    let is_address_byte = |b: u8| b":[]".contains(&b);
    !text.is_empty() && text.bytes().all(|b| is_token_byte(b) || is_address_byte(b))
}

/// An address, with or without brackets and a port. A name, `unknown` or an obfuscated identifier is none.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = |port: &str| port.strip_prefix(':').is_some_and(is_port);
        return match address.parse::<Ipv6Addr>() {
            Ok(address) if port.is_empty() || is_port(port) => Some(address.into()),
            _ => None,
        };
    }
    let (address, port) = text.rsplit_once(':')?;
    match address.parse::<Ipv4Addr>() {
        Ok(address) if is_port(port) => Some(address.into()),
        _ => None,
    }
}

/// A number, or an obfuscated port of RFC 7239.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_obfuscated),
        None => text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
