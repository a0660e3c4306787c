//! Endpoint options: what may be configured, and within which limits.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use url::Url;

use crate::input::{Error, Kind, Object, Place};
use crate::jose::{AnswerKey, check_set};
use crate::signature::Secret;

const SUBJECT: &str = "endpoint options";
const KEYS: &[&str] = &[
    "url",
    "headers",
    "timeout_ms",
    "success",
    "retry_seconds",
    "max_in_flight",
    "rate_per_second",
    "ordered",
    "test_url",
    "secret",
    "answer_key",
    "format",
    "set",
    "breaker_failures",
    "breaker_seconds",
];
const MAX_URL_BYTES: usize = 2048;
const MAX_HEADERS: usize = 50;
/// Set by actionflow or by HTTP itself; a configured one would break the signature or the connection.
const RESERVED_HEADERS: &[&str] = &[
    "content-type",
    "content-length",
    "host",
    "connection",
    "transfer-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// Checks endpoint options; null stands for the default and is kept.
///
/// Options that need one another may be saved one after the other, so that `format` and `set` are checked alone.
///
/// # Errors
/// When a key is unknown, a type is wrong, or a value is out of its limits. Secrets and keys are not repeated.
pub fn check_options(json: &Value) -> Result<(), Error> {
    let object = Object::read(Place::root(SUBJECT), json, KEYS)?;
    for key in ["url", "test_url"] {
        if let Some((value, place)) = object.get(key) {
            check_url(value, &place)?;
        }
    }
    if let Some((value, place)) = object.get("headers") {
        let map = value
            .as_object()
            .ok_or_else(|| place.wrong_type("an object", value))?;
        check_headers(map, &place)?;
    }
    if let Some((value, place)) = object.get("retry_seconds") {
        check_retry_seconds(value, &place)?;
    }
    if let Some((value, place)) = object.get("success")
        && !matches!(value.as_str(), Some("200" | "2xx"))
    {
        return Err(place.unusable(
            format!("unknown success rule {value}"),
            "Use one of: \"200\", \"2xx\".",
        ));
    }
    if let Some((value, place)) = object.get("format")
        && !matches!(value.as_str(), Some("json" | "set"))
    {
        return Err(place.unusable(
            format!("unknown format {value}"),
            "Use one of: \"json\", \"set\".",
        ));
    }
    object.flag("ordered")?;
    check_limits(&object)?;
    check_keys(&object)
}

fn check_limits(object: &Object<'_>) -> Result<(), Error> {
    object.whole_number(
        "timeout_ms",
        10,
        300_000,
        "Use a whole number of milliseconds from 10 to 300000.",
    )?;
    object.whole_number(
        "max_in_flight",
        1,
        10_000,
        "Use a whole number from 1 to 10000.",
    )?;
    object.whole_number(
        "breaker_failures",
        1,
        1000,
        "Use a whole number from 1 to 1000.",
    )?;
    check_number(
        object,
        "rate_per_second",
        0.001..=100_000.0,
        "Use a number from 0.001 to 100000.",
    )?;
    check_number(
        object,
        "breaker_seconds",
        0.1..=3600.0,
        "Use a number of seconds from 0.1 to 3600.",
    )
}

fn check_number(
    object: &Object<'_>,
    key: &str,
    range: RangeInclusive<f64>,
    hint: &'static str,
) -> Result<(), Error> {
    let Some((value, place)) = object.get(key) else {
        return Ok(());
    };
    let number = value
        .as_f64()
        .ok_or_else(|| place.wrong_type("a number", value))?;
    if range.contains(&number) {
        Ok(())
    } else {
        Err(place.unusable(format!("{number} is out of range"), hint))
    }
}

/// The reasons are enough: a secret or a key, even a bad one, is not repeated in an error.
fn check_keys(object: &Object<'_>) -> Result<(), Error> {
    let secret = object.text("secret")?;
    if let Some(secret) = secret {
        Secret::parse(secret).map_err(|_| {
            object.place.key("secret").unusable(
                "the secret has the wrong form",
                "Use whsec_ followed by the base64 of 24 to 64 random bytes.",
            )
        })?;
    }
    if let Some((value, place)) = object.get("answer_key") {
        AnswerKey::read(place, value)?;
    }
    if let Some((value, place)) = object.get("set") {
        check_set(place, value, secret)?;
    }
    Ok(())
}

fn check_url(value: &Value, place: &Place) -> Result<(), Error> {
    const HINT: &str = "Use an absolute http or https URL with a host and without a user name, password or fragment.";
    let text = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a URL", value))?;
    if text.len() > MAX_URL_BYTES {
        return Err(place.error(Kind::TooLarge {
            what: "the URL",
            limit: format!("{MAX_URL_BYTES} bytes"),
        }));
    }
    let url = Url::parse(text)
        .map_err(|error| place.unusable(format!("the URL cannot be used: {error}"), HINT))?;
    let is_usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if is_usable {
        Ok(())
    } else {
        Err(place.unusable("the URL cannot be used", HINT))
    }
}

fn check_headers(map: &Map<String, Value>, place: &Place) -> Result<(), Error> {
    if map.len() > MAX_HEADERS {
        return Err(place.error(Kind::TooLarge {
            what: "the number of headers",
            limit: MAX_HEADERS.to_string(),
        }));
    }
    for (name, value) in map {
        let place = place.key(name);
        // RFC 9110, 5.6.2: a field name is a token.
        let is_token = !name.is_empty()
            && name.len() <= 200
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            return Err(place.unusable(
                "the header name cannot be used",
                "Use letters, digits and \"-\".",
            ));
        }
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(place.unusable(
                format!("header \"{name}\" is set by actionflow"),
                "Leave it out.",
            ));
        }
        let text = value
            .as_str()
            .ok_or_else(|| place.wrong_type("a string", value))?;
        if text.len() > 8192 || text.bytes().any(|b| (b < 0x20 && b != b'\t') || b >= 0x7f) {
            return Err(place.unusable(
                "the header value cannot be used",
                "Use printable ASCII characters, at most 8192 of them.",
            ));
        }
    }
    Ok(())
}

fn check_retry_seconds(value: &Value, place: &Place) -> Result<(), Error> {
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type("an array of seconds", value))?;
    if list.len() > 50 {
        return Err(place.error(Kind::TooLarge {
            what: "the number of retries",
            limit: "50".to_owned(),
        }));
    }
    for (index, value) in list.iter().enumerate() {
        let is_usable = value
            .as_i64()
            .is_some_and(|seconds| (0..=604_800).contains(&seconds));
        if !is_usable {
            return Err(place.index(index).unusable(
                format!("retry delay {value} cannot be used"),
                "Use whole seconds from 0 to 604800 (7 days).",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_documented_options_are_accepted() {
        let options = json!({
            "url": "https://example.com/hook", "headers": {"authorization": "Bearer x"}, "timeout_ms": 5000,
            "success": "2xx", "retry_seconds": [30, 60], "max_in_flight": 5, "rate_per_second": 0.5,
            "ordered": true, "test_url": "http://example.com", "secret": null, "answer_key": null, "format": "json",
            "set": null, "breaker_failures": 5, "breaker_seconds": 0.1
        });
        assert_eq!(check_options(&options), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_where_it_stands() {
        let cases = [
            (json!({"urls": "x"}), "$"),
            (json!({"url": "ftp://example.com"}), "$.url"),
            (json!({"url": "/relative"}), "$.url"),
            (json!({"url": "https://u:p@example.com"}), "$.url"),
            (json!({"url": "http://"}), "$.url"),
            (
                json!({"headers": {"Webhook-Id": "1"}}),
                "$.headers[\"Webhook-Id\"]",
            ),
            (json!({"headers": {"x": "a\r\nb: c"}}), "$.headers.x"),
            (json!({"timeout_ms": 0}), "$.timeout_ms"),
            (json!({"retry_seconds": [1, -1]}), "$.retry_seconds[1]"),
            (json!({"success": "201"}), "$.success"),
            (json!({"secret": "short"}), "$.secret"),
            (json!({"rate_per_second": 0}), "$.rate_per_second"),
            (json!({"rate_per_second": "1"}), "$.rate_per_second"),
            (json!({"format": "xml"}), "$.format"),
            (json!({"format": 1}), "$.format"),
            (json!({"breaker_failures": 0}), "$.breaker_failures"),
            (json!({"breaker_failures": 1001}), "$.breaker_failures"),
            (json!({"breaker_failures": 1.5}), "$.breaker_failures"),
            (json!({"breaker_seconds": 0.09}), "$.breaker_seconds"),
            (json!({"breaker_seconds": 3601}), "$.breaker_seconds"),
            (json!({"answer_key": true}), "$.answer_key"),
            (json!({"set": []}), "$.set"),
        ];
        for (options, path) in cases {
            assert_eq!(
                check_options(&options).expect_err("must be refused").path,
                path,
                "{options}"
            );
        }
    }

    #[test]
    fn a_bad_secret_is_not_repeated() {
        let error = check_options(&json!({"secret": "hunter2"})).expect_err("must be refused");
        assert!(!error.to_string().contains("hunter2"));
    }
}
