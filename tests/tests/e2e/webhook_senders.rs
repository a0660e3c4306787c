//! Libraries that sign webhooks, and the configuration that is to believe them.

use actionflow_tests::Oracle;
use actionflow_tests::Oracle::{Node, Python};
use serde_json::{Value, json};

use crate::keys::{EC_PRIVATE, EC_PUBLIC};

/// A library, how it is configured, and where its signature is.
pub(crate) struct Library {
    pub(crate) sign: (Oracle, &'static str),
    pub(crate) verify: (Oracle, &'static str),
    /// Beside `body`, `time` and `id`: what the job needs.
    pub(crate) job: Value,
    pub(crate) signature: Value,
    /// The header that ends with the signature; empty when it is in the body.
    pub(crate) header: &'static str,
    /// The key of the job that is secret.
    pub(crate) secret: &'static str,
    /// The key that makes the request unique, when there is one.
    pub(crate) id: Option<&'static str>,
    pub(crate) form: bool,
}

const WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const URL: &str = "https://hooks.example.com/in?shop=1";
const SEED: &str = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d";
/// The one bit that is changed lies in here.
pub(crate) const MARK: &str = "marker";

fn library(both: (Oracle, &'static str), job: Value, signature: Value) -> Library {
    Library {
        sign: both,
        verify: both,
        job,
        signature,
        header: "",
        secret: "secret",
        id: None,
        form: false,
    }
}

impl Library {
    fn header(self, header: &'static str) -> Self {
        Self { header, ..self }
    }

    fn id(self, id: &'static str) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }

    pub(crate) fn body(&self) -> String {
        match (self.form, self.sign.1) {
            (true, _) => format!("CallSid=CA12&From=%2B1415&text={MARK}+%C3%BC&empty="),
            (false, "adyen") => json!({"notificationItems": [{"NotificationRequestItem": {
                "pspReference": "7914073381342284", "originalReference": "", "merchantAccountCode": "Shop",
                "merchantReference": MARK, "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION",
                "success": "true"}}]})
            .to_string(),
            // Spaces and characters beyond ASCII: whoever parses and writes it again has other bytes.
            (false, _) => format!("{{ \"id\": \"evt_1\", \"event_id\": \"Ev1\",  \"note\": \"{MARK} é \\u00fc\" }}"),
        }
    }

    pub(crate) fn job(&self, time: u64) -> Value {
        let mut job = self.job.clone();
        job["task"] = json!("sign");
        job["library"] = json!(self.sign.1);
        job["body"] = json!(self.body());
        job["time"] = json!(time);
        job["id"] = json!("msg_1");
        job
    }
}

pub(crate) fn senders_in_python() -> Vec<Library> {
    let preset = |name: &str, secret: &str| json!({"preset": name, "secret": secret});
    let at_url = |name: &str, secret: &str| json!({"preset": name, "secret": secret, "url": URL});
    let secret = |secret: &str| json!({"secret": secret, "url": URL});
    let hubspot = |version: &str| json!({"secret": "yyyy", "url": URL, "version": version});
    let adyen = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
    // The example of the documentation.
    let stripe = json!({"algorithm": "sha256", "digest": "hex", "secret": "whsec_test",
        "data": {"signature": {"header": "stripe-signature", "parsePrefix": "v1="},
                 "timestamp": {"header": "stripe-signature", "parsePrefix": "t="}},
        "template": "[timestamp].[payload]"});
    let mut twilio = library(
        (Python, "twilio"),
        secret("12345"),
        at_url("twilio", "12345"),
    );
    twilio.form = true;
    vec![
        library((Python, "stripe"), secret("whsec_test"), stripe).header("stripe-signature"),
        library(
            (Python, "slack"),
            secret("8f742231b1"),
            preset("slack", "8f742231b1"),
        )
        .header("x-slack-signature")
        .id("Ev1"),
        library(
            (Python, "standardwebhooks"),
            secret(WHSEC),
            preset("standard-webhooks", WHSEC),
        )
        .header("webhook-signature")
        .id("msg_1"),
        library(
            (Python, "paddle"),
            secret("pdl_ntf"),
            preset("paddle", "pdl_ntf"),
        )
        .header("paddle-signature")
        .id("Ev1"),
        twilio.header("x-twilio-signature"),
        library((Python, "square"), secret("sq"), at_url("square", "sq"))
            .header("x-square-hmacsha256-signature")
            .id("Ev1"),
        library(
            (Python, "hubspot"),
            hubspot("v1"),
            preset("hubspot-v1", "yyyy"),
        )
        .header("x-hubspot-signature"),
        library(
            (Python, "hubspot"),
            hubspot("v2"),
            at_url("hubspot-v2", "yyyy"),
        )
        .header("x-hubspot-signature"),
        library(
            (Python, "hubspot"),
            hubspot("v3"),
            at_url("hubspot-v3", "yyyy"),
        )
        .header("x-hubspot-signature-v3"),
        library((Python, "adyen"), secret(adyen), preset("adyen", adyen)),
    ]
}

pub(crate) fn senders_in_node() -> Vec<Library> {
    let preset = |name: &str, secret: &str| json!({"preset": name, "secret": secret});
    let secret = |secret: &str| json!({"secret": secret});
    let spki: String = EC_PUBLIC
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let mut sendgrid = library(
        (Node, "sendgrid"),
        json!({"secret": spki, "key": EC_PRIVATE}),
        preset("sendgrid", &spki),
    );
    // A key pair cannot be changed by one bit.
    sendgrid.secret = "";
    vec![
        library(
            (Node, "octokit"),
            secret("It's a Secret"),
            preset("github", "It's a Secret"),
        )
        .header("x-hub-signature-256")
        .id("msg_1"),
        library(
            (Node, "sanity"),
            secret("sanity"),
            preset("sanity", "sanity"),
        )
        .header("sanity-webhook-signature"),
        library(
            (Node, "standardwebhooks"),
            secret(WHSEC),
            preset("openai", WHSEC),
        )
        .header("webhook-signature")
        .id("msg_1"),
        library((Node, "svix"), secret(WHSEC), preset("svix", WHSEC))
            .header("svix-signature")
            .id("msg_1"),
        library(
            (Node, "stripe"),
            secret("whsec_test"),
            preset("stripe", "whsec_test"),
        )
        .header("stripe-signature")
        .id("evt_1"),
        sendgrid.header("x-twilio-email-event-webhook-signature"),
    ]
}

/// Those that verify with the public half of the key of [`SEED`].
pub(crate) fn senders_with_key_pairs() -> Vec<Library> {
    const PUBLIC: &str = "f650d1b683cd8ae5b858dd82ed6c5788bc2e0157c0e1046dd2c287e3d3dd910b";
    const WHPK: &str = "whpk_9lDRtoPNiuW4WN2C7WxXiLwuAVfA4QRt0sKH49PdkQs=";
    let key_pair = |sign, public: &str, preset: &str| {
        let job = json!({"seed": SEED, "secret": public});
        let signature = json!({"preset": preset, "secret": public});
        let library = library((Python, sign), job, signature);
        Library {
            secret: "seed",
            ..library
        }
    };
    let discord = key_pair("nacl", PUBLIC, "discord").header("x-signature-ed25519");
    let standard = key_pair("nacl-v1a", WHPK, "standard-webhooks").header("webhook-signature");
    vec![
        Library {
            verify: (Node, "discord"),
            ..discord.id("evt_1")
        },
        standard.id("msg_1"),
    ]
}
