//! The JSON message of a notification, in two halves around the customer, who is read when it is sent.

use serde_json::{Map, Value};

/// A moment as messages write it: ISO 8601 with milliseconds, in UTC.
///
/// What lies outside the years that the standard writes with four digits is written as the epoch's start, because a
/// message without a readable time would be refused by its receiver.
#[must_use]
pub fn timestamp(unix_microseconds: i64) -> String {
    let moment =
        jiff::Timestamp::from_microsecond(unix_microseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What stands before the customer.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Name of the event that started the run, or `action-flow-started`.
    pub kind: &'a str,
    /// ISO 8601 with milliseconds, in UTC.
    pub timestamp: &'a str,
    /// `live` or `test`.
    pub mode: &'a str,
    /// Flow name.
    pub flow: &'a str,
    /// Published version; the draft has none.
    pub version: Option<i32>,
    /// The run.
    pub run_id: i64,
    /// The invocation, from the caller or generated.
    pub flow_invocation_id: &'a str,
    /// Action name.
    pub action: &'a str,
}

impl Head<'_> {
    /// JSON text up to the value of `user`.
    #[must_use]
    pub fn render(&self) -> String {
        let version = self
            .version
            .map_or_else(|| "null".to_owned(), |version| version.to_string());
        format!(
            r#"{{"type":{},"timestamp":"{}","data":{{"mode":"{}","flow":{},"version":{version},"run_id":"{}","flow_invocation_id":{},"action":{},"user":"#,
            text(self.kind),
            self.timestamp,
            self.mode,
            text(self.flow),
            self.run_id,
            text(self.flow_invocation_id),
            text(self.action),
        )
    }
}

/// JSON text after the value of `user`; `event` is null when no event started the run.
#[must_use]
pub fn tail(
    variables: &Map<String, Value>,
    event: &Value,
    notification_detail: &Value,
    metadata: &Value,
) -> String {
    let variables = serde_json::to_string(variables).unwrap_or_else(|_| "{}".to_owned());
    format!(
        r#","variables":{variables},"event":{event},"notificationDetail":{notification_detail},"metadata":{metadata}}}}}"#
    )
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_moment_is_written_with_milliseconds_in_utc() {
        assert_eq!(timestamp(1_795_316_400_000_000), "2026-11-22T03:00:00.000Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(timestamp(i64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn head_customer_and_tail_make_the_documented_message() {
        let head = Head {
            kind: "user-created",
            timestamp: "2026-11-22T03:00:00.000Z",
            mode: "live",
            flow: "wel\"come",
            version: Some(3),
            run_id: 17,
            flow_invocation_id: "inv",
            action: "tell",
        };
        let event = json!({"id": "9", "name": "user-created", "properties": {}});
        let variables = json!({"a": 1});
        let tail = tail(
            variables.as_object().expect("object"),
            &event,
            &json!({}),
            &json!({"k": "v"}),
        );
        let message: Value =
            serde_json::from_str(&format!("{}{}{tail}", head.render(), r#"{"id":"42"}"#))
                .expect("JSON");
        assert_eq!(
            message,
            json!({
                "type": "user-created", "timestamp": "2026-11-22T03:00:00.000Z",
                "data": {
                    "mode": "live", "flow": "wel\"come", "version": 3, "run_id": "17", "flow_invocation_id": "inv",
                    "action": "tell", "user": {"id": "42"}, "variables": {"a": 1}, "event": event,
                    "notificationDetail": {}, "metadata": {"k": "v"}
                }
            })
        );
    }
}
