//! Bodies of requests, by their content type.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::{HeaderPairs, Refusal, header};

/// More pairs in a form than any sender has.
const MAX_PAIRS: usize = 10_000;

/// The body as JSON. A form becomes an object: a name that comes once has a text, one that comes again an array of them. No
/// content type counts as JSON, as some senders leave it out.
///
/// # Errors
/// 415 for any other type, and for any content encoding but `identity`; 422 for what is not of its type.
pub fn read_body(headers: &HeaderPairs<'_>, body: &[u8]) -> Result<Value, Refusal> {
    let mut encodings = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"))
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim);
    let is_plain =
        |encoding: &str| encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    if !encodings.all(is_plain) {
        return Err(Refusal::new(415, "send the body without content-encoding"));
    }
    parse_body(header(headers, "content-type"), body)
}

fn parse_body(content_type: Option<&str>, body: &[u8]) -> Result<Value, Refusal> {
    let essence = content_type
        .and_then(|text| text.split(';').next())
        .map(|text| text.trim().to_ascii_lowercase());
    match essence.as_deref() {
        None | Some("application/json") => parse_json(body),
        Some(name) if name.starts_with("application/") && name.ends_with("+json") => {
            parse_json(body)
        }
        Some("application/x-www-form-urlencoded") => parse_form(body),
        Some(_) => Err(Refusal::new(
            415,
            "send application/json or application/x-www-form-urlencoded",
        )),
    }
}

fn parse_json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let cause = error.to_string();
        // What serde_json says of one half alone, or with something else behind it.
        let is_half = ["lone leading surrogate", "unexpected end of hex escape"];
        let message = if body.starts_with(b"\xef\xbb\xbf") {
            "the body is not JSON: it begins with a byte order mark"
        } else if is_half.iter().any(|known| cause.starts_with(known)) {
            "the body is not JSON: it has half of a surrogate pair"
        } else {
            "the body is not JSON"
        };
        Refusal::new(422, message).because(cause)
    })
}

fn parse_form(body: &[u8]) -> Result<Value, Refusal> {
    let mut form = Map::new();
    let pairs = body.split(|byte| *byte == b'&');
    for (index, pair) in pairs.filter(|pair| !pair.is_empty()).enumerate() {
        if index >= MAX_PAIRS {
            return Err(Refusal::new(422, "the form has too many fields"));
        }
        let (name, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        let value = Value::String(decode(value)?);
        match form.entry(decode(name)?) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Value::Array(values) => values.push(value),
                first => *first = Value::Array(vec![first.take(), value]),
            },
        }
    }
    Ok(Value::Object(form))
}

/// A name or a value as the URL standard decodes it, but for bytes that are not UTF-8: the standard puts U+FFFD in their place, so
/// that what was different would become the same customer.
fn decode(text: &[u8]) -> Result<String, Refusal> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|error| Refusal::new(422, "the form is not UTF-8").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_read_whatever_its_type_is_called() {
        for name in [
            None,
            Some("application/json"),
            Some("Application/JSON; charset=utf-8"),
            Some("application/cloudevents+json"),
        ] {
            assert_eq!(parse_body(name, b"{\"a\": 1}"), Ok(json!({"a": 1})));
        }
    }

    #[test]
    fn a_form_is_an_object() {
        let body = b"CallSid=CA12&text=a+b%26c&tag=x&tag=y&empty=";
        assert_eq!(
            parse_body(Some("application/x-www-form-urlencoded"), body),
            Ok(json!({"CallSid": "CA12", "text": "a b&c", "tag": ["x", "y"], "empty": ""}))
        );
    }

    #[test]
    fn a_form_is_decoded_as_the_url_standard_says() {
        let form = Some("application/x-www-form-urlencoded");
        for body in [
            "",
            "&&",
            "=",
            "a",
            "a=b=c",
            "=a",
            "a=%",
            "a=%4",
            "a=%zz",
            "a=%4g%41",
            "%41+b=%2B%26%3D",
            "a=%C3%A9&é=é",
            "a=%e2%82%ac%00",
            "a&b&&c=",
        ] {
            let mut expected = Map::new();
            for (name, value) in url::form_urlencoded::parse(body.as_bytes()) {
                expected.insert(name.into_owned(), Value::String(value.into_owned()));
            }
            assert_eq!(
                parse_body(form, body.as_bytes()),
                Ok(Value::Object(expected)),
                "{body}"
            );
        }
        for body in [
            &b"id=%ff"[..],
            b"%FF=1",
            b"id=\xff",
            b"a=1&id=%C3&b=%A9",
            b"id=%ED%A0%80",
        ] {
            let refusal = parse_body(form, body).expect_err("not UTF-8");
            assert_eq!(
                (refusal.status, refusal.message),
                (422, "the form is not UTF-8")
            );
        }
    }

    #[test]
    fn compressed_bodies_are_refused() {
        let read = |encodings: &[&'static str]| {
            let mut headers = vec![("Content-Type", "application/json")];
            headers.extend(encodings.iter().map(|value| ("Content-Encoding", *value)));
            read_body(&headers, b"{}").map_err(|refusal| refusal.status)
        };
        for plain in [
            &[][..],
            &["identity"],
            &["Identity"],
            &[""],
            &["identity", "identity"],
        ] {
            assert_eq!(read(plain), Ok(json!({})), "{plain:?}");
        }
        for packed in [
            &["gzip"][..],
            &["identity, gzip"],
            &["identity", "br"],
            &["x"],
        ] {
            assert_eq!(read(packed), Err(415), "{packed:?}");
        }
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(read_body(&form, b"a=1"), Ok(json!({"a": "1"})));
    }

    #[test]
    fn two_frequent_mistakes_in_json_are_named() {
        let message = |body: &[u8]| parse_body(None, body).expect_err("no JSON").message;
        let mark = "the body is not JSON: it begins with a byte order mark";
        assert_eq!(message(b"\xef\xbb\xbf{}"), mark);
        let half = "the body is not JSON: it has half of a surrogate pair";
        for body in [
            r#""\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
        ] {
            assert_eq!(message(body.as_bytes()), half, "{body}");
        }
        for body in [&b"{"[..], b"\"\xff\"", b"", b"\"\\u12"] {
            assert_eq!(message(body), "the body is not JSON", "{body:?}");
        }
    }

    #[test]
    fn other_types_and_what_is_not_of_its_type_are_refused() {
        let status =
            |name, body: &[u8]| parse_body(Some(name), body).map_err(|refusal| refusal.status);
        assert_eq!(status("text/plain", b"{}"), Err(415));
        assert_eq!(status("application/xml", b"{}"), Err(415));
        assert_eq!(status("", b"{}"), Err(415));
        assert_eq!(status("application/json", b"{"), Err(422));
        assert_eq!(status("application/json", b"\"\xff\""), Err(422));
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert_eq!(status("application/json", &deep), Err(422));
        let many = b"a=1&".repeat(MAX_PAIRS + 1);
        assert_eq!(status("application/x-www-form-urlencoded", &many), Err(422));
    }
}
