//! Bodies that are forms, as Slack and Twilio send them, and JSON under other names.

use std::time::SystemTime;

use actionflow_tests::{Oracle, exchange};
use serde_json::json;

use crate::scene::unix_seconds;
use crate::webhook_stage::{Sent, Stage};

/// The slash command of Slack's documentation.
const COMMAND: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=94070+%C3%BC%26&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554&trigger_id=398738663015.47445629121";
const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
/// Names that come twice, an empty value, an encoded one.
const CALL: &str =
    "CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310&Empty=";

#[tokio::test]
async fn a_slash_command_of_slack_is_a_form_and_its_raw_bytes_are_signed() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5"});
    let mapping = json!({"kind": "fields", "targetUserIds": "$.user_id", "flowInvocationId": "$.trigger_id",
        "variables": {"text": "$.text", "command": "$.command"}});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": mapping}))
        .await;
    let job = json!({"library": "slack", "task": "sign", "secret": "8f742231b10e8888abcd99yyyzzz85a5",
        "body": COMMAND, "time": unix_seconds(SystemTime::now())});
    let signed = &Oracle::Python.results(&[job]).await[0];
    assert_eq!(
        stage
            .status(&hook, &Sent::form(COMMAND).signed(signed))
            .await,
        202
    );
    let rewritten = COMMAND.replace("%2F", "/");
    assert_eq!(
        stage
            .status(&hook, &Sent::form(&rewritten).signed(signed))
            .await,
        401
    );
    let told = stage.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["data"]["user"], json!({"id": "U2CERLKJA"}));
    assert_eq!(
        told["data"]["variables"],
        json!({"text": "94070 ü&", "command": "/webhook-collect"})
    );
    assert_eq!(stage.runs().await, ["U2CERLKJA|398738663015.47445629121"]);
}

#[tokio::test]
async fn a_call_of_twilio_is_a_form_whose_fields_are_signed() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "twilio", "secret": "12345", "url": URL});
    let mapping = json!({"kind": "fields", "targetUserIds": "$.From", "flowInvocationId": "$.CallSid",
        "variables": {"digits": "$.Digits", "empty": "$.Empty"}});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": mapping}))
        .await;
    let job =
        json!({"library": "twilio", "task": "sign", "secret": "12345", "body": CALL, "url": URL});
    let signed = &Oracle::Python.results(&[job]).await[0];
    // The order of the fields is not signed, and a JSON body has none.
    let mut fields: Vec<&str> = CALL.split('&').collect();
    fields.reverse();
    let sent = Sent::form(&fields.join("&")).signed(signed);
    assert_eq!(stage.status(&hook, &sent).await, 202);
    for body in [
        CALL.replace("1234&From", "1235&From"),
        format!("{CALL}&Extra=1"),
        CALL.replace("&Empty=", ""),
        CALL.replace("Empty=", "Empty=1"),
    ] {
        let sent = Sent::form(&body).signed(signed);
        // An empty field adds its name, so the one that lacks it is another request.
        assert_eq!(stage.status(&hook, &sent).await, 401, "{body}");
    }
    let json = Sent::new("application/json", r#"{"From": "1"}"#).signed(signed);
    assert_eq!(stage.status(&hook, &json).await, 401);
    let told = stage.receiver.wait_for_one("/crm").await.json();
    assert_eq!(
        told["data"]["variables"],
        json!({"digits": "1234", "empty": ""})
    );
    assert_eq!(stage.runs().await, ["+14158675310|CA1234567890ABCDE"]);
}

#[tokio::test]
async fn json_comes_under_several_names_and_anything_else_is_refused() {
    let stage = Stage::new().await;
    let mapping = json!({"kind": "fields", "targetUserIds": "$.user"});
    let hook = stage.live(&json!({"mapping": mapping})).await;
    let body = r#"{"user": "1"}"#;
    for name in [
        "application/json",
        "Application/JSON;charset=UTF-8",
        "application/cloudevents+json",
        "application/vnd.api+json ; a=b",
    ] {
        assert_eq!(
            stage.status(&hook, &Sent::new(name, body)).await,
            202,
            "{name}"
        );
    }
    for name in [
        "text/plain",
        "text/json",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "json",
        "",
    ] {
        let response = stage.send(&hook, &Sent::new(name, body)).await;
        assert_eq!(response.status, 415, "{name}");
        assert_eq!(response.json()["error"]["code"], "unsupported_media_type");
    }
    // Some senders say nothing.
    let mut untyped = Sent::new("", body);
    untyped.headers.clear();
    assert_eq!(stage.status(&hook, &untyped).await, 202);
    let repeated = Sent::form("user=5&user=6&tag=");
    assert_eq!(
        stage.send(&hook, &repeated).await.json()["data"]["started"],
        2
    );
}

/// As a sender writes that does not know the length before: in pieces, which do not follow the characters.
#[tokio::test]
async fn a_body_that_comes_in_chunks_is_verified_as_a_whole() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let mapping = json!({"kind": "fields", "targetUserIds": "$.user"});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": mapping}))
        .await;
    let body = r#"{"user": "1", "name": "Zoë"}"#;
    let job =
        json!({"library": "octokit", "task": "sign", "secret": "hush", "body": body, "id": "d-1"});
    let signed = &Oracle::Node.results(&[job]).await[0];
    for size in [1, 7, body.len()] {
        let mut request = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n",
            hook.path
        );
        for (name, value) in signed.as_object().expect("headers") {
            request += &format!("{name}: {}\r\n", value.as_str().expect("a text"));
        }
        let mut request = (request + "\r\n").into_bytes();
        for chunk in body.as_bytes().chunks(size) {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        let response = exchange(stage.worker.address(), &request)
            .await
            .expect("an answer");
        assert!(matches!(response.status, 200 | 202), "{size}: {response:?}");
    }
    assert_eq!(stage.runs().await, ["1|d-1"]);
}
