//! What is kept of webhooks: the ids of senders, samples, and what was refused.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::webhooks::{SIGNATURE, hmac_in_sql, send, set_mode, trigger};
    use crate::tests::{error_of, run, scene, text};
    use pgrx::prelude::*;
    use serde_json::json;

    /// The id is in the body.
    const WITH_ID: &str = r#"{"signature": {"algorithm": "token", "secret": "s3cret", "data": {"signature": {"header": "x-token"}, "id": {"json": "/id"}}},
        "mapping": {"kind": "fields", "targetUserIds": "$.user"}}"#;

    #[pg_test]
    fn t24_a_senders_id_is_known_to_its_trigger_alone() {
        scene();
        let headers = json!({"x-token": "s3cret"});
        let body = r#"{"id": 17, "user": "7"}"#;
        let mut tokens = Vec::new();
        for _ in 0..2 {
            tokens.push(trigger(WITH_ID));
            set_mode("live");
        }
        for token in &tokens {
            let answer = send(token, "POST", headers.clone(), body);
            assert!(answer.starts_with("202 "), "{answer}");
            assert!(answer.contains(r#""flowInvocationId": "17""#), "{answer}");
            let answer = send(token, "POST", headers.clone(), body);
            assert!(answer.starts_with("200 "), "{answer}");
        }
        assert_eq!(
            text("select string_agg(flow_invocation_id, ' ') from actionflow.runs"),
            "17 17"
        );
    }

    #[pg_test]
    fn xero_is_told_200_and_nothing_else() {
        scene();
        hmac_in_sql();
        let token = trigger(
            r#"{"signature": {"preset": "xero", "secret": "s3cret"}, "mapping": {"kind": "fields", "targetUserIds": "$.user"}}"#,
        );
        set_mode("live");
        let body = r#"{"user": "7", "events": [1]}"#;
        let signature = text(&format!(
            "select encode(hmac.mac, 'base64') from public.hmac_sha256('s3cret', '{body}') as hmac (mac)"
        ));
        assert_eq!(
            send(&token, "POST", json!({"x-xero-signature": signature}), body),
            "200 null"
        );
        assert_eq!(text("select count(*) from actionflow.runs"), "1");
    }

    #[pg_test]
    fn refusals_are_counted_and_the_last_ones_kept_without_secrets() {
        scene();
        let token = trigger(&format!(r#"{{"signature": {SIGNATURE}}}"#));
        let headers = json!({"content-type": "application/json", "x-signature": "sha256=00", "authorization": "Bearer hush"});
        for _ in 0..40 {
            assert!(send(&token, "POST", headers.clone(), "{}").starts_with("401 "));
        }
        assert_eq!(
            text("select (count(*), min(total), min(status), min(method), min(content_type), min(body_bytes), min(host(remote_addr)))
                  from actionflow.webhook_rejections"),
            "(16,40,401,POST,application/json,2,203.0.113.9)"
        );
        let kept = text("select json_agg(r) from actionflow.webhook_rejections as r");
        assert!(!kept.contains("hush") && !kept.contains("s3cret"), "{kept}");
        let shown = text("select options from actionflow.triggers where kind = 'webhook'");
        assert!(
            shown.contains("x-signature") && !shown.contains("s3cret"),
            "{shown}"
        );
        // Another trigger's refusals, or another status, take no row of these.
        let other = trigger("{}");
        for _ in 0..20 {
            assert!(send(&other, "POST", headers.clone(), "{}").starts_with("422 "));
        }
        assert_eq!(
            text("select string_agg(concat_ws(':', status, n), ' ' order by status)
                  from (select status, count(*) as n from actionflow.webhook_rejections group by status) as refused"),
            "401:16 422:16"
        );
    }

    #[pg_test]
    fn t22_the_next_request_is_captured_and_starts_nothing() {
        scene();
        let token = trigger("{}");
        let id = text("select id from public.hook");
        let mapping = r#"{"kind": "fields", "targetUserIds": "$.customer.id", "variables": {"plan": "$.plan"}}"#;
        let tested = format!("select actionflow.test_mapping({id}, '{mapping}')");
        assert!(error_of(&tested).starts_with(&format!(
            "55000 | no sample has been captured for trigger {id}"
        )));
        run(&format!("select actionflow.capture_webhook_sample({id})"));
        let headers =
            json!({"content-type": "application/json", "cookie": "a=hush", "x-shop": "eu"});
        let body = r#"{"customer": {"id": 42}, "plan": "pro"}"#;
        assert_eq!(
            send(&token, "POST", headers.clone(), body),
            r#"202 {"data": {"captured": true}}"#
        );
        assert_eq!(
            text(&tested),
            r#"{"variables": {"plan": "pro"}, "targetUserIds": ["42"]}"#
        );
        assert_eq!(
            text(
                "select (method, headers, convert_from(body, 'UTF8')) from actionflow.webhook_samples"
            ),
            r#"(POST,"[[""x-shop"", ""eu""], [""content-type"", ""application/json""]]","{""customer"": {""id"": 42}, ""plan"": ""pro""}")"#
        );
        // Only one: the next request is handled as always.
        assert!(send(&token, "POST", headers, body).starts_with("422 "));
        assert_eq!(text("select count(*) from actionflow.runs"), "0");
        run(&format!("select actionflow.capture_webhook_sample({id})"));
        set_mode("live");
        assert_eq!(
            text("select count(*) from actionflow.webhook_samples"),
            "0",
            "nobody waits for it any more"
        );
        assert!(
            error_of(&format!("select actionflow.capture_webhook_sample({id})"))
                .starts_with("55000 | ")
        );
    }

    #[pg_test]
    fn a_removed_trigger_takes_everything_of_its_own_with_it() {
        scene();
        let token = trigger("{}");
        run("select actionflow.capture_webhook_sample(id) from public.hook");
        assert!(send(&token, "POST", json!({}), "{}").starts_with("202 "));
        assert!(send(&token, "POST", json!({}), "{}").starts_with("422 "));
        run("select actionflow.remove_trigger(id) from public.hook");
        assert!(send(&token, "POST", json!({}), "{}").starts_with("404 "));
        assert_eq!(
            text("select (select count(*) from actionflow._webhook) + (select count(*) from actionflow._webhook_sample)
                  + (select count(*) from actionflow._webhook_rejection)"),
            "0"
        );
    }

    // The header is known to be the secret only when the sample has shown what the sender sends.
    #[pg_test]
    fn t22_a_sample_loses_what_turns_out_to_be_the_secret() {
        scene();
        let token = trigger("{}");
        run("select actionflow.capture_webhook_sample(id) from public.hook");
        let headers = json!([["X-My-Key", "hush"], ["x-shop", "eu"]]);
        assert!(send(&token, "POST", headers, "{}").starts_with("202 "));
        run(
            r#"select actionflow.update_webhook_trigger(id, '{"signature": {
                   "algorithm": "token", "secret": "s3cret", "data": {"signature": {"header": "x-my-key"}}}}') from public.hook"#,
        );
        assert_eq!(
            text("select headers from actionflow.webhook_samples"),
            r#"[["x-shop", "eu"]]"#
        );
    }
}
