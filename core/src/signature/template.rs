//! Templates of what is signed: compiled once, and handed to the hash piece by piece in one pass, so that nothing that a request
//! holds is looked at for tokens again.

use std::borrow::Cow;

use super::source::header_name;
use crate::input::{Error, Kind, Place};

const MAX_TEMPLATE_BYTES: usize = 2048;
const MAX_PIECES: usize = 40;
/// Headers that a template may name.
pub(super) const MAX_HEADERS: usize = 8;
const MAX_POINTER_BYTES: usize = 256;

const TOKENS: &str = "Use the tokens [timestamp], [payload], [id], [url], [method], [header:NAME], [json:/POINTER], \
    [form:sorted] and [secret]; a \"[\" begins a token.";

/// A template.
#[derive(Clone)]
pub(super) struct Template {
    pieces: Vec<Piece>,
    /// Lower-case names that `Piece::Header` counts in.
    pub(super) headers: Vec<String>,
    /// JSON pointers that `Piece::Json` counts in.
    pub(super) pointers: Vec<String>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Piece {
    Text(Box<str>),
    Timestamp,
    Payload,
    Id,
    Url,
    Method,
    Secret,
    Form,
    Header(usize),
    Json(usize),
}

/// What a request has for a template's tokens; empty where the template does not ask.
#[derive(Default)]
pub(super) struct Values<'a> {
    pub(super) timestamp: Cow<'a, str>,
    pub(super) payload: &'a [u8],
    pub(super) id: &'a str,
    pub(super) url: &'a str,
    pub(super) method: &'a str,
    pub(super) form: Vec<u8>,
    pub(super) headers: [&'a str; MAX_HEADERS],
    pub(super) json: Vec<Cow<'a, str>>,
}

impl Template {
    pub(super) fn empty() -> Self {
        Self {
            pieces: Vec::new(),
            headers: Vec::new(),
            pointers: Vec::new(),
        }
    }

    pub(super) fn parse(text: &str, place: &Place) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(place.unusable("the template is empty", TOKENS));
        }
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(too_large(
                place,
                "the template",
                format!("{MAX_TEMPLATE_BYTES} bytes"),
            ));
        }
        let mut template = Self::empty();
        let mut rest = text;
        while !rest.is_empty() {
            if template.pieces.len() == MAX_PIECES {
                return Err(too_large(
                    place,
                    "the template",
                    format!("{MAX_PIECES} parts"),
                ));
            }
            let piece = if let Some(token) = rest.strip_prefix('[') {
                let (token, after) = token.split_once(']').ok_or_else(|| {
                    place.unusable("a token of the template does not end", TOKENS)
                })?;
                rest = after;
                template.token(token, place)?
            } else {
                let (literal, after) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
                rest = after;
                Piece::Text(literal.into())
            };
            template.pieces.push(piece);
        }
        if template.count(&Piece::Payload) > 1 || template.count(&Piece::Form) > 1 {
            return Err(place.unusable("the template has the body twice", "Name the body once."));
        }
        Ok(template)
    }

    fn token(&mut self, token: &str, place: &Place) -> Result<Piece, Error> {
        Ok(match token {
            "timestamp" => Piece::Timestamp,
            "payload" => Piece::Payload,
            "id" => Piece::Id,
            "url" => Piece::Url,
            "method" => Piece::Method,
            "secret" => Piece::Secret,
            "form:sorted" => Piece::Form,
            _ => {
                if let Some(name) = token.strip_prefix("header:") {
                    if self.headers.len() == MAX_HEADERS {
                        let limit = MAX_HEADERS.to_string();
                        return Err(too_large(
                            place,
                            "the number of headers in the template",
                            limit,
                        ));
                    }
                    self.headers.push(header_name(name, place)?);
                    Piece::Header(self.headers.len() - 1)
                } else if let Some(pointer) = token.strip_prefix("json:") {
                    check_pointer(pointer, place)?;
                    self.pointers.push(pointer.to_owned());
                    Piece::Json(self.pointers.len() - 1)
                } else {
                    let message = format!("unknown token \"[{token}]\" in the template");
                    return Err(place.unusable(message, TOKENS));
                }
            }
        })
    }

    fn count(&self, piece: &Piece) -> usize {
        self.pieces.iter().filter(|other| *other == piece).count()
    }

    pub(super) fn has(&self, piece: &Piece) -> bool {
        self.pieces.contains(piece)
    }

    /// The first byte of the text right behind a token: a value that holds it could be split elsewhere under the same signature.
    pub(super) fn border_after(&self, piece: &Piece) -> Option<u8> {
        let at = self.pieces.iter().position(|other| other == piece)?;
        match self.pieces.get(at + 1)? {
            Piece::Text(text) => text.bytes().next(),
            _ => None,
        }
    }

    /// Whether two values of any length stand side by side: one signature fits wherever they are parted. A timestamp is no such
    /// value, because its form says where it begins and ends; nor are the method and what is configured.
    pub(super) fn has_open_border(&self) -> bool {
        use Piece::{Form, Header, Id, Json, Payload};
        self.pieces.array_windows().any(|pair| {
            matches!(
                pair,
                [
                    Form | Header(_) | Id | Json(_),
                    Form | Header(_) | Id | Json(_) | Payload
                ]
            )
        })
    }

    /// Hands over what is signed.
    pub(super) fn feed(&self, values: &Values<'_>, secret: &[u8], take: &mut dyn FnMut(&[u8])) {
        for piece in &self.pieces {
            take(match piece {
                Piece::Text(text) => text.as_bytes(),
                Piece::Timestamp => values.timestamp.as_bytes(),
                Piece::Payload => values.payload,
                Piece::Id => values.id.as_bytes(),
                Piece::Url => values.url.as_bytes(),
                Piece::Method => values.method.as_bytes(),
                Piece::Secret => secret,
                Piece::Form => &values.form,
                Piece::Header(index) => values.headers.get(*index).map_or(&[], |v| v.as_bytes()),
                Piece::Json(index) => values.json.get(*index).map_or(&[], |v| v.as_bytes()),
            });
        }
    }
}

/// A JSON pointer (RFC 6901).
pub(super) fn check_pointer(pointer: &str, place: &Place) -> Result<(), Error> {
    let is_escaped = pointer
        .split('~')
        .skip(1)
        .all(|after| after.starts_with(['0', '1']));
    if !pointer.starts_with('/') || !is_escaped || pointer.len() > MAX_POINTER_BYTES {
        return Err(place.unusable(
            "the JSON pointer cannot be read",
            "Use a pointer of at most 256 bytes as in RFC 6901, such as \"/data/id\".",
        ));
    }
    Ok(())
}

fn too_large(place: &Place, what: &'static str, limit: String) -> Error {
    place.error(Kind::TooLarge { what, limit })
}
