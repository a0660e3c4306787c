//! Form parameters in the order in which Twilio signs them.

use url::form_urlencoded;

use super::source::{Part, one_value};
use super::verify::{Rejection, Request};

/// The header that says what a body is.
pub(super) const CONTENT_TYPE: &str = "content-type";

/// More than any sender has; bounds what sorting costs.
const MAX_PARAMETERS: usize = 1000;

/// Names and values of a form, decoded and joined: sorted by name, then by value, each pair once.
///
/// The content type must say that the body is a form, or else the same bytes could be signed as a form and read as JSON.
pub(super) fn sorted(request: &Request<'_>) -> Result<Vec<u8>, Rejection> {
    let content_type = one_value(request, CONTENT_TYPE, &Part::Whole)?;
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_end();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Rejection::NoForm);
    }
    let mut pairs: Vec<_> = form_urlencoded::parse(request.body)
        .take(MAX_PARAMETERS + 1)
        .collect();
    if pairs.len() > MAX_PARAMETERS {
        return Err(Rejection::LongForm);
    }
    pairs.sort_unstable();
    pairs.dedup();
    let mut text = Vec::with_capacity(request.body.len());
    // A name is written before each of its values.
    for (name, value) in &pairs {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(value.as_bytes());
    }
    Ok(text)
}
