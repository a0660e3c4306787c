//! Inbound webhooks: what a trigger is configured with, what arrives, and what the sender is told.

mod allow_list;
mod content;
mod handshake;
mod options;
mod refusal;

pub use allow_list::AllowList;
pub use content::read_body;
pub use handshake::{Greeting, Handshake};
pub use options::{Options, merged, public_options};
pub use refusal::{Refusal, unusable};

/// Bodies above this are refused, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Headers as they arrived: name and value, duplicates kept.
pub type HeaderPairs<'a> = [(&'a str, &'a str)];

/// The raw query of the URL, as a header that no HTTP client can send: names of headers do not begin with a colon.
const QUERY: &str = ":query";

/// Headers that prove who sends, and so are neither kept nor shown to a mapping.
const CREDENTIALS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "apikey",
    "x-api-key",
    "x-auth-token",
    "x-gitlab-token",
];

/// The first header of this name.
#[must_use]
pub fn header<'a>(headers: &HeaderPairs<'a>, name: &str) -> Option<&'a str> {
    let mut pairs = headers.iter();
    let found = pairs.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| *value)
}

/// The headers without those that are credentials: the usual ones, and those that the signature's configuration names.
#[must_use]
pub fn without_credentials<'a>(
    headers: &HeaderPairs<'a>,
    configured: &[String],
) -> Vec<(&'a str, &'a str)> {
    let is_credential = |name: &str| {
        let mut known = CREDENTIALS
            .iter()
            .copied()
            .chain(configured.iter().map(String::as_str));
        known.any(|credential| name.eq_ignore_ascii_case(credential))
    };
    let pairs = headers.iter().copied();
    pairs
        .filter(|(name, _)| !name.starts_with(':') && !is_credential(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t22_credentials_are_left_out_in_any_case_of_letters() {
        let headers = [
            ("Authorization", "Bearer x"),
            ("X-Event", "order"),
            ("COOKIE", "a=b"),
            ("x-shared-token", "s"),
            (QUERY, "hub.verify_token=s"),
        ];
        assert_eq!(
            without_credentials(&headers, &["x-shared-token".to_owned()]),
            [("X-Event", "order")]
        );
        assert_eq!(header(&headers, "x-event"), Some("order"));
    }
}
