//! Questions that some senders ask before they send: the answer proves that the receiver wants their webhooks.

use serde_json::{Value, json};

use super::{HeaderPairs, QUERY, Refusal, header};
use crate::input::{Error, Object, Place};
use crate::signature;

const KINDS_HINT: &str = "Use one of: slack, zoom, meta, dropbox, twitch, okta, trello, xero.";
/// What is echoed is short and printable: whoever knows the URL could otherwise make it say anything.
const MAX_ECHO_BYTES: usize = 1_024;

/// A sender's way to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// A signed `{"type": "url_verification", "challenge"}`.
    Slack,
    /// A signed `{"event": "endpoint.url_validation", "payload": {"plainToken"}}`; the answer has its HMAC.
    Zoom,
    /// GET with `hub.challenge`, if `hub.verify_token` is the configured text.
    Meta(VerifyToken),
    /// GET with `challenge`.
    Dropbox,
    /// A signed request whose header says that it asks, with `challenge` in its body.
    Twitch,
    /// GET with the text in a header.
    Okta,
    /// HEAD.
    Trello,
    /// A signed request without events.
    Xero,
}

/// A text that only Meta and the owner know. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyToken(String);

impl std::fmt::Debug for VerifyToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifyToken(…)")
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// As `text/plain`.
    Text(String),
    /// As `application/json`.
    Json(Value),
    /// Without a body.
    Empty,
}

impl Handshake {
    /// Parses a name, or `{"kind": "meta", "verify_token": "…"}`.
    pub(super) fn parse(value: &Value, place: &Place) -> Result<Self, Error> {
        if let Some(kind) = value.as_str() {
            return Self::of_kind(kind, None, place);
        }
        if !value.is_object() {
            return Err(place.wrong_type("a string or an object", value));
        }
        let object = Object::read(place.clone(), value, &["kind", "verify_token"])?;
        object.require("kind")?;
        let kind = object.text("kind")?.unwrap_or_default();
        Self::of_kind(kind, object.text("verify_token")?, place)
    }

    fn of_kind(kind: &str, verify_token: Option<&str>, place: &Place) -> Result<Self, Error> {
        match (kind, verify_token) {
            ("meta", Some(token)) if !token.trim().is_empty() => {
                Ok(Self::Meta(VerifyToken(token.to_owned())))
            }
            ("meta", _) => Err(place.unusable(
                "the handshake of meta needs a \"verify_token\"",
                "Give the text that you have entered at Meta: {\"kind\": \"meta\", \"verify_token\": \"…\"}.",
            )),
            (_, Some(_)) => Err(place
                .key("verify_token")
                .unusable("only meta has a \"verify_token\"", "Leave it out.")),
            _ => Self::of_preset(kind).ok_or_else(|| {
                place.unusable(format!("unknown handshake \"{kind}\""), KINDS_HINT)
            }),
        }
    }

    /// The handshake of the sender that a signature preset is for, if it has one that needs no more to be known.
    pub(super) fn of_preset(preset: &str) -> Option<Self> {
        Some(match preset {
            "slack" => Self::Slack,
            "zoom" => Self::Zoom,
            "dropbox" => Self::Dropbox,
            "twitch" => Self::Twitch,
            "okta" => Self::Okta,
            "trello" => Self::Trello,
            "xero" => Self::Xero,
            _ => return None,
        })
    }

    /// Whether questions can be answered with this signature.
    pub(super) fn check(
        &self,
        signature: Option<&signature::Config>,
        place: &Place,
    ) -> Result<(), Error> {
        let has_hmac = signature.is_some_and(|signature| signature.hmac_hex(b"").is_some());
        match self {
            Self::Zoom if !has_hmac => Err(place.unusable(
                "the handshake of zoom needs a signature with HMAC",
                "Give the signature {\"preset\": \"zoom\", \"secret\": \"…\"}: its secret makes the answer.",
            )),
            _ => Ok(()),
        }
    }

    /// The answer to a question that comes without a body and so without a signature: GET and HEAD.
    ///
    /// # Errors
    /// 403 when it is asked with another verify token, 422 when it is not a question.
    pub fn greet(
        &self,
        method: &str,
        headers: &HeaderPairs<'_>,
    ) -> Result<Option<Greeting>, Refusal> {
        let query = header(headers, QUERY).unwrap_or_default();
        let parameter = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.into_owned())
        };
        match (self, method) {
            (Self::Trello, "HEAD") => Ok(Some(Greeting::Empty)),
            (Self::Dropbox, "GET") => echo(parameter("challenge")).map(Some),
            (Self::Okta, "GET") => {
                let text = header(headers, "x-okta-verification-challenge").map(str::to_owned);
                let text = printable(text)?;
                Ok(Some(Greeting::Json(json!({"verification": text}))))
            }
            (Self::Meta(VerifyToken(token)), "GET") => {
                let given = parameter("hub.verify_token").unwrap_or_default();
                match signature::is_same(given.as_bytes(), token.as_bytes()) {
                    true => echo(parameter("hub.challenge")).map(Some),
                    false => Err(Refusal::new(403, "the verify token is another one")),
                }
            }
            _ => Ok(None),
        }
    }

    /// The answer to every accepted request, where the sender takes no other for success: Xero wants 200 without a body.
    #[must_use]
    pub fn receipt(&self) -> Option<Greeting> {
        matches!(self, Self::Xero).then_some(Greeting::Empty)
    }

    /// The answer to a question in a body whose signature has been verified; `None` when it is not one, so that it may start
    /// something.
    ///
    /// # Errors
    /// 422 when it is a question that cannot be answered.
    pub fn greet_signed(
        &self,
        headers: &HeaderPairs<'_>,
        body: &Value,
        signature: Option<&signature::Config>,
    ) -> Result<Option<Greeting>, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match self {
            Self::Slack if body["type"] == "url_verification" => {
                let challenge = printable(text(&body["challenge"]))?;
                Ok(Some(Greeting::Json(json!({"challenge": challenge}))))
            }
            Self::Zoom if body["event"] == "endpoint.url_validation" => {
                let plain = printable(text(&body["payload"]["plainToken"]))?;
                let encrypted = signature
                    .and_then(|signature| signature.hmac_hex(plain.as_bytes()))
                    .ok_or_else(|| unanswerable().because("there is no secret for HMAC"))?;
                Ok(Some(Greeting::Json(
                    json!({"plainToken": plain, "encryptedToken": encrypted}),
                )))
            }
            Self::Twitch
                if header(headers, "twitch-eventsub-message-type")
                    == Some("webhook_callback_verification") =>
            {
                echo(text(&body["challenge"])).map(Some)
            }
            Self::Xero => {
                let is_asking = body["events"].as_array().is_some_and(Vec::is_empty);
                Ok(is_asking.then_some(Greeting::Empty))
            }
            _ => Ok(None),
        }
    }
}

fn echo(text: Option<String>) -> Result<Greeting, Refusal> {
    printable(text).map(Greeting::Text)
}

fn printable(text: Option<String>) -> Result<String, Refusal> {
    text.filter(|text| {
        let is_short = (1..=MAX_ECHO_BYTES).contains(&text.len());
        is_short && text.bytes().all(|byte| byte.is_ascii_graphic())
    })
    .ok_or_else(unanswerable)
}

fn unanswerable() -> Refusal {
    Refusal::new(422, "the request has no usable challenge")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(handshake: &Handshake, body: &Value) -> Result<Option<Greeting>, u16> {
        let config = json!({"preset": "zoom", "secret": "key"});
        let config = signature::Config::parse(&config).expect("a preset");
        let headers = [(
            "Twitch-Eventsub-Message-Type",
            "webhook_callback_verification",
        )];
        let greeting = handshake.greet_signed(&headers, body, Some(&config));
        greeting.map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_question_that_cannot_be_answered_is_refused() {
        let long = "x".repeat(MAX_ECHO_BYTES + 1);
        for value in [
            json!(long),
            json!(""),
            json!("a b"),
            json!("é"),
            json!(7),
            json!(null),
        ] {
            let slack = json!({"type": "url_verification", "challenge": value});
            let zoom =
                json!({"event": "endpoint.url_validation", "payload": {"plainToken": value}});
            let twitch = json!({"challenge": value});
            for (handshake, body) in [
                (Handshake::Slack, slack),
                (Handshake::Zoom, zoom),
                (Handshake::Twitch, twitch),
            ] {
                assert_eq!(ask(&handshake, &body), Err(422), "{handshake:?} {value}");
            }
        }
        let zoom = json!({"event": "endpoint.url_validation"});
        assert_eq!(ask(&Handshake::Zoom, &zoom), Err(422));
        let zoom = json!({"event": "endpoint.url_validation", "payload": {"plainToken": "a"}});
        let without_secret = Handshake::Zoom.greet_signed(&[], &zoom, None);
        assert_eq!(without_secret.map_err(|refusal| refusal.status), Err(422));
    }

    #[test]
    fn a_question_is_answered_and_anything_else_is_none() {
        let longest = "x".repeat(MAX_ECHO_BYTES);
        let slack = json!({"type": "url_verification", "challenge": longest});
        let answer = Greeting::Json(json!({"challenge": longest}));
        assert_eq!(ask(&Handshake::Slack, &slack), Ok(Some(answer)));
        let twitch = json!({"challenge": "a"});
        let answer = Greeting::Text("a".to_owned());
        assert_eq!(ask(&Handshake::Twitch, &twitch), Ok(Some(answer)));
        let xero = json!({"events": []});
        assert_eq!(ask(&Handshake::Xero, &xero), Ok(Some(Greeting::Empty)));
        let zoom = json!({"event": "endpoint.url_validation", "payload": {"plainToken": "a"}});
        assert!(matches!(
            ask(&Handshake::Zoom, &zoom),
            Ok(Some(Greeting::Json(answer))) if answer["plainToken"] == "a"
        ));
        let event = json!({"type": "event_callback", "event": {}, "challenge": 7, "events": [1]});
        for handshake in [Handshake::Slack, Handshake::Zoom, Handshake::Xero] {
            assert_eq!(ask(&handshake, &event), Ok(None), "{handshake:?}");
        }
        assert_eq!(Handshake::Twitch.greet_signed(&[], &event, None), Ok(None));
    }
}
