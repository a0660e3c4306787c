//! The URL as the sender knows it, which some senders sign.

use crate::input::{Error, Kind, Object, Place};
use crate::payload::is_web_address;

/// Reads `url` and `urlDecode`; empty when there is none.
pub(super) fn url(object: &Object<'_>) -> Result<String, Error> {
    let decode = match object.text("urlDecode")? {
        None => false,
        Some("hubspot") => true,
        Some(_) => {
            return Err(object.place.key("urlDecode").unusable(
                "unknown decoding of the url",
                "Use \"hubspot\", or leave it out.",
            ));
        }
    };
    let Some(url) = object.text("url")? else {
        return if decode {
            Err(missing_url(&object.place))
        } else {
            Ok(String::new())
        };
    };
    if !is_web_address(url) {
        return Err(object.place.key("url").unusable(
            "the url is not an http or https address",
            "Use the complete address as the sender knows it, of at most 2048 bytes.",
        ));
    }
    Ok(if decode {
        hubspot_decoded(url)
    } else {
        url.to_owned()
    })
}

pub(super) fn missing_url(place: &Place) -> Error {
    place.error(Kind::MissingKey("url"))
}

/// `HubSpot` signs the URL with exactly these characters decoded.
fn hubspot_decoded(url: &str) -> String {
    const CODES: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let code = |at: usize| {
        let code = url.get(at..at + 3)?;
        CODES
            .iter()
            .find(|(from, _)| from.eq_ignore_ascii_case(code))
    };
    let mut decoded = String::with_capacity(url.len());
    let mut skip = 0;
    for (at, character) in url.char_indices() {
        if skip > 0 {
            skip -= 1;
        } else if let Some((_, to)) = code(at) {
            decoded.push_str(to);
            skip = 2;
        } else {
            decoded.push(character);
        }
    }
    decoded
}
