//! Reading of a configuration's keys, after the preset was laid under them.

use serde_json::Value;

use super::config::{Check, Config, From, Id, Signatures, Timestamp};
use super::encoding::Encoding;
use super::key::{Algorithm, Key, read_secrets};
use super::source::{Part, check_prefix, header_name};
use super::template::{Template, check_pointer};
use super::timestamp::Format;
use super::url::url;
use crate::input::{Error, Kind, Object, Place};

const KEYS: &[&str] = &[
    "algorithm",
    "digest",
    "secret",
    "data",
    "template",
    "preset",
    "secrets",
    "secretEncoding",
    "secretPrefix",
    "tolerance",
    "toleranceFuture",
    "url",
    "urlDecode",
    "signsBody",
    "note",
];
const DATA_KEYS: &[&str] = &["signature", "timestamp", "id"];
const SIGNATURE_KEYS: &[&str] = &[
    "header",
    "headers",
    "json",
    "parsePrefix",
    "separator",
    "position",
];
const TIMESTAMP_KEYS: &[&str] = &[
    "header",
    "json",
    "parsePrefix",
    "separator",
    "position",
    "format",
];
const ID_KEYS: &[&str] = &["header", "json"];

/// As many as a sender has keys.
const MAX_SIGNATURE_HEADERS: usize = 10;
const MAX_NOTE_BYTES: usize = 2000;
/// What the libraries of most senders use.
const DEFAULT_TOLERANCE_SECONDS: i64 = 300;
/// Thirty days: some senders repeat a request for days with its first timestamp.
const MAX_TOLERANCE_SECONDS: i64 = 2_592_000;
const TOLERANCE_HINT: &str = "Use a whole number of seconds from 0 to 2592000; 0 allows any age.";

pub(super) fn config(
    json: &Value,
    preset: Option<&'static str>,
    place: Place,
) -> Result<Config, Error> {
    let object = Object::read(place, json, KEYS)?;
    if object
        .text("note")?
        .is_some_and(|note| note.len() > MAX_NOTE_BYTES)
    {
        return Err(object.place.key("note").error(Kind::TooLarge {
            what: "the note",
            limit: format!("{MAX_NOTE_BYTES} bytes"),
        }));
    }
    let (data, data_place) = object.require("data")?;
    let data = Object::read(data_place, data, DATA_KEYS)?;
    let (signature, signature_place) = data.require("signature")?;
    let signature = Object::read(signature_place, signature, SIGNATURE_KEYS)?;
    let checks = checks(&object, &signature)?;
    let signatures = signatures(&signature)?;
    let is_token = checks
        .iter()
        .any(|check| check.algorithm == Algorithm::Token);
    let credential_headers = match &signatures {
        Signatures::Headers(names) if is_token => names.clone(),
        _ => Vec::new(),
    };
    if is_token {
        refuse_beside_token(&object, &data, &signatures)?;
    }
    Config {
        preset,
        checks,
        signatures,
        template: template(&object, is_token)?,
        timestamp: timestamp(&object, &data)?,
        id: id(&data)?,
        url: url(&object)?,
        credential_headers,
        headers: Vec::new(),
        has_id: false,
        has_method: false,
        has_form: false,
        needs_json: false,
    }
    .assemble(object.flag("signsBody")?.unwrap_or(true), &object.place)
}

/// A secret that is sent as it is signs nothing, so that keys about signing would promise something.
fn refuse_beside_token(
    object: &Object<'_>,
    data: &Object<'_>,
    signatures: &Signatures,
) -> Result<(), Error> {
    let beside = [
        "digest",
        "template",
        "tolerance",
        "toleranceFuture",
        "signsBody",
    ];
    let beside = beside
        .into_iter()
        .chain(["url", "urlDecode", "secretEncoding", "secretPrefix"]);
    let at_root = beside.filter_map(|key| object.get(key));
    let in_body = match signatures {
        Signatures::Json(_) => data.get("signature"),
        Signatures::Headers(_) => None,
    };
    match at_root.chain(data.get("timestamp")).chain(in_body).next() {
        None => Ok(()),
        Some((_, place)) => Err(place.unusable(
            "a token is compared as it is, from a header",
            "Leave out everything that is about signing, or use another algorithm.",
        )),
    }
}

fn checks(object: &Object<'_>, signature: &Object<'_>) -> Result<Vec<Check>, Error> {
    let (value, place) = object.require("algorithm")?;
    let name = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a string", value))?;
    let is_standard = name == "standard-webhooks";
    let mut checks = if is_standard {
        let fixed = ["digest", "secretEncoding"]
            .into_iter()
            .filter_map(|key| object.get(key));
        let parts = ["parsePrefix", "separator", "position"].into_iter();
        if let Some((_, place)) = fixed
            .chain(parts.filter_map(|key| signature.get(key)))
            .next()
        {
            return Err(place.unusable(
                "Standard Webhooks says what this is",
                "Leave it out, or use another algorithm.",
            ));
        }
        Check::standard_webhooks()
    } else {
        // The name is not repeated: a secret may have been put in its place.
        let algorithm = Algorithm::by_name(name).ok_or_else(|| {
            place.unusable(
                "unknown algorithm",
                "Use one of: \"sha1\", \"sha256\", \"sha384\", \"sha512\", \"sha256-plain\", \"ed25519\", \
                 \"ecdsa-p256-sha256\", \"token\", \"standard-webhooks\".",
            )
        })?;
        let is_token = algorithm == Algorithm::Token;
        vec![Check {
            algorithm,
            digest: if is_token {
                None
            } else {
                Some(Encoding::read_digest(object)?)
            },
            part: if is_token {
                token_part(signature)?
            } else {
                Part::read(signature, true)?
            },
            keys: Vec::new(),
        }]
    };
    let prefix = object.text("secretPrefix")?;
    let encoding = if is_standard {
        Some(Encoding::Base64)
    } else {
        secret_encoding(object)?
    };
    let algorithms: Vec<Algorithm> = checks.iter().map(|check| check.algorithm).collect();
    let keys = read_secrets(object, |text, period, place| {
        let text = prefix
            .and_then(|prefix| text.strip_prefix(prefix))
            .unwrap_or(text);
        let (index, text) = if is_standard {
            standard_secret(text, place)?
        } else {
            (0, text)
        };
        let key = Key::new(algorithms[index], text, encoding, period, place)?;
        Ok((index, key))
    })?;
    for (index, key) in keys {
        checks[index].keys.push(key);
    }
    Ok(checks)
}

/// Which of the two checks a secret of Standard Webhooks is for, and its base64. Its own first characters say so, and have to be
/// there: a public key that was taken for a shared secret would let everybody sign.
fn standard_secret<'a>(text: &'a str, place: &Place) -> Result<(usize, &'a str), Error> {
    let shared = text.strip_prefix("whsec_").map(|base64| (0, base64));
    let public = || text.strip_prefix("whpk_").map(|base64| (1, base64));
    shared.or_else(public).ok_or_else(|| {
        place.unusable(
            "the secret does not begin with \"whsec_\" or \"whpk_\"",
            "Put whsec_ before the base64 of a shared secret, whpk_ before that of a public key.",
        )
    })
}

/// A prefix such as `Bearer ` belongs to the whole value: tokens may hold separators.
fn token_part(signature: &Object<'_>) -> Result<Part, Error> {
    for key in ["separator", "position"] {
        if let Some((_, place)) = signature.get(key) {
            return Err(place.unusable(
                "a token is the whole value",
                "Leave it out, or use parsePrefix for what stands before the token.",
            ));
        }
    }
    let Some(prefix) = signature.text("parsePrefix")? else {
        return Ok(Part::Whole);
    };
    check_prefix(prefix, &signature.place.key("parsePrefix"))?;
    Ok(Part::After(prefix.to_owned()))
}

fn secret_encoding(object: &Object<'_>) -> Result<Option<Encoding>, Error> {
    match object.text("secretEncoding")? {
        None | Some("utf8") => Ok(None),
        Some(name) => Encoding::by_name(name).map(Some).ok_or_else(|| {
            object.place.key("secretEncoding").unusable(
                "unknown encoding",
                "Use one of: \"utf8\", \"base64\", \"base64url\", \"hex\".",
            )
        }),
    }
}

fn signatures(object: &Object<'_>) -> Result<Signatures, Error> {
    match one_source(object, &["header", "headers", "json"])? {
        ("headers", value, place) => {
            let list = value
                .as_array()
                .filter(|list| !list.is_empty() && list.len() <= MAX_SIGNATURE_HEADERS)
                .ok_or_else(|| place.wrong_type("an array of 1 to 10 strings", value))?;
            let names = list.iter().enumerate();
            let names = names.map(|(index, name)| name_at(name, &place.index(index)));
            Ok(Signatures::Headers(names.collect::<Result<_, _>>()?))
        }
        ("json", value, place) => Ok(Signatures::Json(pointer_at(value, &place)?)),
        (_, value, place) => Ok(Signatures::Headers(vec![name_at(value, &place)?])),
    }
}

fn timestamp(object: &Object<'_>, data: &Object<'_>) -> Result<Option<Timestamp>, Error> {
    let past = object.whole_number("tolerance", 0, MAX_TOLERANCE_SECONDS, TOLERANCE_HINT)?;
    let future =
        object.whole_number("toleranceFuture", 0, MAX_TOLERANCE_SECONDS, TOLERANCE_HINT)?;
    let Some((value, place)) = data.get("timestamp") else {
        let unused = object
            .get("tolerance")
            .or_else(|| object.get("toleranceFuture"));
        return unused.map_or(Ok(None), |(_, place)| {
            Err(place.unusable(
                "there is no timestamp",
                "Set data.timestamp, or leave the tolerance out.",
            ))
        });
    };
    let source = Object::read(place, value, TIMESTAMP_KEYS)?;
    let from = match one_source(&source, &["header", "json"])? {
        ("json", value, place) => From::Json(pointer_at(value, &place)?),
        (_, value, place) => From::Header(name_at(value, &place)?),
    };
    let part = Part::read(&source, false)?;
    if matches!(from, From::Json(_)) && part != Part::Whole {
        return Err(source.place.unusable(
            "a timestamp in the body is a whole value",
            "Leave out parsePrefix, separator and position.",
        ));
    }
    let past = past.unwrap_or(DEFAULT_TOLERANCE_SECONDS);
    let limit = |seconds: i64| (seconds > 0).then_some(seconds * 1_000_000);
    Ok(Some(Timestamp {
        from,
        part,
        format: Format::read(&source)?,
        past: limit(past),
        future: limit(future.unwrap_or(past)),
    }))
}

fn id(data: &Object<'_>) -> Result<Option<Id>, Error> {
    let Some((value, place)) = data.get("id") else {
        return Ok(None);
    };
    let source = Object::read(place, value, ID_KEYS)?;
    Ok(Some(match one_source(&source, &["header", "json"])? {
        ("json", value, place) => Id::Json(pointer_at(value, &place)?),
        (_, value, place) => Id::Header(name_at(value, &place)?),
    }))
}

fn template(object: &Object<'_>, is_token: bool) -> Result<Template, Error> {
    if is_token {
        return Ok(Template::empty());
    }
    let (value, place) = object.require("template")?;
    let text = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a string", value))?;
    Template::parse(text, &place)
}

/// The one key of several that says where something stands.
fn one_source<'a>(
    object: &Object<'a>,
    keys: &'static [&'static str],
) -> Result<(&'static str, &'a Value, Place), Error> {
    let mut found = keys
        .iter()
        .filter_map(|key| object.get(key).map(|(value, place)| (*key, value, place)));
    let first = found
        .next()
        .ok_or_else(|| object.place.error(Kind::MissingKey("header")))?;
    match found.next() {
        None => Ok(first),
        Some((_, _, place)) => Err(place.unusable(
            "there is another source already",
            "Use one of header, headers and json.",
        )),
    }
}

fn name_at(value: &Value, place: &Place) -> Result<String, Error> {
    let name = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a string", value))?;
    header_name(name, place)
}

fn pointer_at(value: &Value, place: &Place) -> Result<String, Error> {
    let pointer = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a string", value))?;
    check_pointer(pointer, place)?;
    Ok(pointer.to_owned())
}
