//! Bodies of requests, by their content type.

use serde_json::{Map, Value};

use super::Refusal;

/// More pairs in a form than any sender has.
const MAX_PAIRS: usize = 10_000;

/// The body as JSON. A form becomes an object: a name that comes once has a text, one that comes again an array of them. No
/// content type counts as JSON, as some senders leave it out.
///
/// # Errors
/// 415 for any other type, 422 for what is not of its type.
pub fn parse_body(content_type: Option<&str>, body: &[u8]) -> Result<Value, Refusal> {
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
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(422, "the body is not JSON").because(error))
}

fn parse_form(body: &[u8]) -> Result<Value, Refusal> {
    let mut form = Map::new();
    for (index, (name, value)) in url::form_urlencoded::parse(body).enumerate() {
        if index >= MAX_PAIRS {
            return Err(Refusal::new(422, "the form has too many fields"));
        }
        let value = Value::String(value.into_owned());
        match form.get_mut(&*name) {
            None => {
                form.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(Value::Object(form))
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
