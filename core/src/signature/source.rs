//! Where in a request a value stands: which header, and which part of it.

use memchr::{memchr, memchr3};

use super::verify::{Rejection, Request};
use crate::input::{Error, Object, Place};

/// The longest header value that is looked at.
pub(super) const MAX_HEADER_BYTES: usize = 8 << 10;

const MAX_NAME_BYTES: usize = 128;
const MAX_PREFIX_BYTES: usize = 64;
/// More than any sender puts before a signature.
const MAX_POSITION: i64 = 31;

/// What stands between the elements of a header, whichever of them a sender uses.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b' ' | b'\t')
}

/// The part of a text that is meant.
#[derive(Clone, PartialEq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What follows these characters at the beginning of the text, all of it.
    After(String),
    /// Each element that begins with these characters, without them.
    Elements(String),
    /// The parts between separators, from this one on; a list counts to its end, a single value is the one part.
    Parts {
        separator: char,
        position: usize,
        is_list: bool,
    },
}

impl Part {
    /// Reads `parsePrefix`, or `separator` and `position`. A list takes every part from the position on.
    pub(super) fn read(object: &Object<'_>, is_list: bool) -> Result<Self, Error> {
        let prefix = object.text("parsePrefix")?;
        let separator = object.text("separator")?;
        let position = object.whole_number(
            "position",
            0,
            MAX_POSITION,
            "Use a whole number from 0 to 31: the first part has number 0.",
        )?;
        match (prefix, separator) {
            (Some(_), Some(_)) => Err(object.place.key("separator").unusable(
                "there is a \"parsePrefix\" already",
                "Use either parsePrefix, or separator and position.",
            )),
            (Some(prefix), None) if position.is_none() => {
                check_prefix(prefix, &object.place.key("parsePrefix"))?;
                Ok(Self::Elements(prefix.to_owned()))
            }
            (None, Some(separator)) => Ok(Self::Parts {
                separator: one_character(separator).ok_or_else(|| {
                    object.place.key("separator").unusable(
                        "the separator is not one character",
                        "Use one printable ASCII character, such as \",\".",
                    )
                })?,
                position: usize::try_from(position.unwrap_or(0)).unwrap_or(0),
                is_list,
            }),
            (_, None) if position.is_some() => Err(object.place.key("position").unusable(
                "a position needs a \"separator\"",
                "Say what stands between the parts, such as \",\".",
            )),
            _ => Ok(Self::Whole),
        }
    }

    /// Hands over what is meant in a text, piece by piece, until it is enough.
    fn each<'a, R>(
        &self,
        text: &'a str,
        mut take: impl FnMut(&'a str) -> Result<(), R>,
    ) -> Result<(), R> {
        match self {
            Self::Whole => take(text),
            Self::After(prefix) => text.strip_prefix(prefix.as_str()).map_or(Ok(()), take),
            Self::Elements(prefix) => elements(text, prefix, take),
            Self::Parts {
                separator,
                position,
                is_list,
            } => {
                let count = if *is_list { usize::MAX } else { 1 };
                let mut parts = text.split(*separator).skip(*position).take(count);
                parts.try_for_each(|part| take(part.trim_matches([' ', '\t'])))
            }
        }
    }
}

/// The values behind a prefix. An element begins with the text or right after a separator; its value ends before the next one.
/// So "=" may be inside of a value, and `v1,` (where the prefix itself holds a separator) is not found in `v1a,`.
fn elements<'a, R>(
    text: &'a str,
    prefix: &str,
    mut take: impl FnMut(&'a str) -> Result<(), R>,
) -> Result<(), R> {
    let mut rest = text;
    loop {
        let value = rest.strip_prefix(prefix);
        let from = value.unwrap_or(rest);
        let end = first_separator(from.as_bytes());
        if value.is_some() {
            take(&from[..end.unwrap_or(from.len())])?;
        }
        match end {
            Some(end) => rest = &from[end + 1..],
            None => return Ok(()),
        }
    }
}

/// Where the first separator stands.
fn first_separator(text: &[u8]) -> Option<usize> {
    let end = memchr3(b',', b';', b' ', text);
    // One search takes three bytes. Only what is before the other separators is searched again, so that the whole stays linear.
    memchr(b'\t', &text[..end.unwrap_or(text.len())]).or(end)
}

/// Reads a header's name, which is given in any case, as lower case.
pub(super) fn header_name(name: &str, place: &Place) -> Result<String, Error> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_token) {
        return Err(place.unusable(
            "the header's name cannot be used",
            "Use 1 to 128 letters, digits and hyphens.",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

pub(super) fn check_prefix(prefix: &str, place: &Place) -> Result<(), Error> {
    let is_printable = prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES || !is_printable {
        return Err(place.unusable(
            "the prefix cannot be used",
            "Use 1 to 64 printable ASCII characters, or leave parsePrefix out.",
        ));
    }
    if prefix.bytes().next().is_some_and(is_separator) {
        return Err(place.unusable(
            "the prefix begins with a separator, so that nothing could match",
            "Begin with the name of the element, such as \"v1=\".",
        ));
    }
    Ok(())
}

fn one_character(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters
        .next()
        .filter(|one| one.is_ascii_graphic() && characters.next().is_none())
}

/// The values of a header, each checked to be short ASCII text; none is an error.
///
/// `take` is called for each value that [`Part`] means, over all the headers of that name.
pub(super) fn each_value<'a>(
    request: &Request<'a>,
    name: &str,
    part: &Part,
    mut take: impl FnMut(&'a str) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let mut is_there = false;
    for &(_, value) in request
        .headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
    {
        is_there = true;
        if value.len() > MAX_HEADER_BYTES {
            return Err(Rejection::LongHeader(name.to_owned()));
        }
        if !is_printable(value) {
            return Err(Rejection::HeaderText(name.to_owned()));
        }
        part.each(value.trim_matches([' ', '\t']), &mut take)?;
    }
    if is_there {
        Ok(())
    } else {
        Err(Rejection::MissingHeader(name.to_owned()))
    }
}

/// Whether a text is ASCII without control characters but tabs.
///
/// It is read to its end in pieces of fixed size, which are compared as a whole; to stop early would be slower.
fn is_printable(text: &str) -> bool {
    const PIECE: usize = 16;
    let text = text.as_bytes();
    let (pieces, rest) = text.as_chunks::<PIECE>();
    // The last piece overlaps the one before, or else up to 15 bytes would be read one by one.
    let rest = text.last_chunk::<PIECE>().map_or(rest, |last| last);
    pieces
        .iter()
        .fold(true, |all, piece| all & are_printable(piece))
        & are_printable(rest)
}

fn are_printable(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\t'))
}

/// The one value of a header; different ones are an error, because HTTP does not say which of them a sender means.
pub(super) fn one_value<'a>(
    request: &Request<'a>,
    name: &str,
    part: &Part,
) -> Result<&'a str, Rejection> {
    let mut found = None;
    each_value(request, name, part, |value| match found.replace(value) {
        Some(other) if other != value => Err(Rejection::Contradiction(name.to_owned())),
        _ => Ok(()),
    })?;
    found
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Rejection::EmptyHeader(name.to_owned()))
}

/// As [`each_value`], in a text that is in the body.
pub(super) fn each_part<'a>(
    text: &'a str,
    part: &Part,
    take: impl FnMut(&'a str) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    part.each(text, take)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(part: &Part, text: &'static str) -> Vec<&'static str> {
        let mut values = Vec::new();
        part.each(text, |value| {
            values.push(value);
            Ok::<(), ()>(())
        })
        .unwrap();
        values
    }

    #[test]
    fn one_rule_reads_every_shape_of_header() {
        let elements = |prefix: &str, text| found(&Part::Elements(prefix.to_owned()), text);
        assert_eq!(elements("v1=", "t=1,v1=a,v1=b,v0=c"), ["a", "b"]);
        assert_eq!(elements("v1=", "v1=a, t=1"), ["a"]);
        assert_eq!(elements("t=", "v1=a, t=1"), ["1"]);
        assert_eq!(elements("h1=", "ts=1;h1=a;h1="), ["a", ""]);
        assert_eq!(
            elements("v1,", "v1,AAA= v1a,BBB= v1,CCC="),
            ["AAA=", "CCC="]
        );
        assert_eq!(elements("v1a,", "v1,AAA= v1a,BBB= v1,CCC="), ["BBB="]);
        assert_eq!(elements("sha256=", "sha256=a=b="), ["a=b="]);
        assert_eq!(elements("v1=", "V1=a,xv1=b"), [""; 0]);
        assert_eq!(elements("v1=", ""), [""; 0]);
        assert_eq!(elements("v1=", ",,; v1="), [""]);
        assert_eq!(
            elements("v1=", "v1=a\tv1=b,\tv1=c;v1=d v1=e\t"),
            ["a", "b", "c", "d", "e"]
        );
    }

    #[test]
    fn every_byte_of_a_text_has_to_be_printable() {
        for length in 0..70 {
            let text = "~ \ta".chars().cycle().take(length).collect::<String>();
            assert!(is_printable(&text), "{length}");
            for at in 0..length {
                for bad in ["\0", "\x08", "\n", "\r", "\x1f", "\x7f", "\u{80}", "é", "€"] {
                    let text = format!("{}{bad}{}", &text[..at], &text[at + 1..]);
                    assert!(!is_printable(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_position_is_one_part_or_all_from_there_on() {
        let part = |is_list| Part::Parts {
            separator: ',',
            position: 1,
            is_list,
        };
        assert_eq!(found(&part(true), "1, a,b"), ["a", "b"]);
        assert_eq!(found(&part(false), "1, a,b"), ["a"]);
        assert_eq!(found(&part(true), "1"), [""; 0]);
    }
}
