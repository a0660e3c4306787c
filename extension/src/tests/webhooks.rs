//! Inbound webhooks: configuration, admission, mapping, and what becomes of a request.

use serde_json::Value;

use crate::tests::{run, text};

/// A trigger of flow `welcome` with these options, and the token of its URL.
pub(crate) fn trigger(options: &str) -> String {
    run(&format!(
        "create table if not exists public.hook (id bigint, path text);
         truncate public.hook;
         insert into public.hook select * from actionflow.add_webhook_trigger('welcome', '{options}')"
    ));
    text("select substr(path, length('/v1/webhooks/') + 1) from public.hook")
}

pub(crate) fn set_mode(mode: &str) {
    run(&format!(
        "select actionflow.set_trigger_mode((select id from public.hook), '{mode}')"
    ));
}

/// `status response` of a request.
pub(crate) fn send(token: &str, method: &str, headers: Value, body: &str) -> String {
    text(&format!(
        "select status || ' ' || coalesce(response::text, 'null') from actionflow.receive_webhook(
             '{token}', '{method}', $headers${headers}$headers$, convert_to($body${body}$body$, 'UTF8'), '203.0.113.9')"
    ))
}

pub(crate) const SIGNATURE: &str = r#"{"algorithm": "sha256", "digest": "hex", "secret": "s3cret", "template": "[payload]",
    "data": {"signature": {"header": "x-signature", "parsePrefix": "sha256="}}}"#;

/// HMAC in SQL, which shares no code with the one under test (RFC 2104, for keys of at most 64 bytes).
pub(crate) fn hmac_in_sql() {
    run("create function public.hmac_sha256(key text, message text) returns bytea language plpgsql as $$
         declare inner_key bytea := ''; outer_key bytea := ''; k bytea := convert_to(key, 'UTF8'); b int;
         begin
             for i in 0..63 loop
                 b := case when i < length(k) then get_byte(k, i) else 0 end;
                 inner_key := inner_key || set_byte('\\x00'::bytea, 0, b # 54);
                 outer_key := outer_key || set_byte('\\x00'::bytea, 0, b # 92);
             end loop;
             return sha256(outer_key || sha256(inner_key || convert_to(message, 'UTF8')));
         end $$");
}

#[pgrx::pg_schema]
mod tests {
    use super::{SIGNATURE, hmac_in_sql, send, set_mode, trigger};
    use crate::tests::{error_of, run, scene, text};
    use pgrx::prelude::*;
    use serde_json::{Value, json};

    fn signed(body: &str) -> Value {
        let signature = text(&format!(
            "select encode(hmac.mac, 'hex') from public.hmac_sha256('s3cret', $body${body}$body$) as hmac (mac)"
        ));
        json!({"Content-Type": "application/json", "X-Signature": format!("sha256={signature}")})
    }

    #[pg_test]
    fn t25_a_signature_that_fits_is_true_and_any_other_false() {
        hmac_in_sql();
        let verify = |headers: &Value, body: &str| {
            text(&format!(
                "select actionflow.verify_signature('{SIGNATURE}', $headers${headers}$headers$, convert_to('{body}', 'UTF8'))"
            ))
        };
        let headers = signed("hello");
        assert_eq!(verify(&headers, "hello"), "true");
        assert_eq!(verify(&headers, "hellp"), "false");
        assert_eq!(verify(&json!({}), "hello"), "false");
        assert_eq!(verify(&json!({"x-signature": 7}), "hello"), "false");
        let pair = json!([["x-signature", headers["X-Signature"]]]);
        assert_eq!(verify(&pair, "hello"), "true");
    }

    // A value in a row is one of four things; that it is judged where it lies must not depend on which.
    #[pg_test]
    fn t25_a_request_is_judged_however_it_is_stored() {
        hmac_in_sql();
        run("create table public.stored (kind text, headers jsonb, body bytea);
             alter table public.stored alter body set storage external;
             create function public.store(kind text, more text, message text) returns void language sql
             begin atomic
                 insert into public.stored values (kind,
                     jsonb_build_object('x-more', more, 'X-Signature',
                         array['sha256=' || encode(public.hmac_sha256('s3cret', message), 'hex')]),
                     convert_to(message, 'UTF8'));
             end;
             select public.store('short', '', 'a');
             select public.store('plain', 'some text', repeat('text', 200));
             select public.store('elsewhere', repeat('some text', 2000), repeat('text', 5000));
             alter table public.stored alter body set storage main;
             select public.store('compressed', repeat('some text', 2000), repeat('text', 5000))");
        let verified = |secret: &str| {
            let config = SIGNATURE.replace("s3cret", secret);
            text(&format!(
                "select string_agg(kind, ' ') from public.stored where actionflow.verify_signature('{config}', headers, body)"
            ))
        };
        assert_eq!(verified("s3cret"), "short plain elsewhere compressed");
        assert_eq!(verified("S3cret"), "NULL");
        assert_eq!(
            text(
                "select string_agg((pg_column_size(body) < length(body))::text, ' ')
                    || (pg_relation_size(reltoastrelid) > 0)::text
                 from public.stored, pg_class where oid = 'public.stored'::regclass group by reltoastrelid"
            ),
            "false false false truetrue"
        );
    }

    #[pg_test]
    fn t27_a_new_trigger_tests_and_a_live_one_is_not_changed_by_mistake() {
        scene();
        let token = trigger(r#"{"mapping": {"kind": "fields", "targetUserIds": "$.id"}}"#);
        assert_eq!(
            text("select mode from actionflow.triggers where kind = 'webhook'"),
            "test"
        );
        let answer = send(&token, "POST", json!({}), r#"{"id": "7"}"#);
        assert!(answer.starts_with("202 "), "{answer}");
        assert!(
            answer.contains(r#""ignored": [{"reason": "not a test user", "userId": "7"}]"#),
            "{answer}"
        );
        set_mode("live");
        let update = "select actionflow.update_webhook_trigger((select id from public.hook), '{\"allowed_ips\": [\"192.0.2.1\"]}'";
        assert!(error_of(&format!("{update})")).starts_with("55000 | trigger "));
        let answer = send(&token, "PUT", json!({}), r#"{"id": "7"}"#);
        assert!(answer.contains(r#""started": 1"#), "{answer}");
        assert_eq!(
            text(
                "select (r.mode, r.state, r.trigger_id = h.id) from actionflow.runs as r, public.hook as h"
            ),
            "(live,completed,t)"
        );
        run(&format!("{update}, force => true)"));
        assert!(send(&token, "POST", json!({}), r#"{"id": "8"}"#).starts_with("403 "));
        set_mode("disabled");
        assert!(send(&token, "POST", json!({}), r#"{"id": "8"}"#).starts_with("409 "));
    }

    #[pg_test]
    fn t20_an_unknown_url_is_404_and_a_rotated_one_is_unknown() {
        scene();
        let token = trigger("{}");
        assert!(send("afwh_nope", "POST", json!({}), "{}").starts_with("404 "));
        run("update public.hook set path = actionflow.rotate_webhook_path(id)");
        let rotated = text("select substr(path, length('/v1/webhooks/') + 1) from public.hook");
        let body = r#"{"targetUserIds": "1"}"#;
        assert!(send(&token, "POST", json!({}), body).starts_with("404 "));
        assert!(send(&rotated, "POST", json!({}), body).starts_with("202 "));
        assert!(send(&rotated, "GET", json!({}), "").starts_with("405 "));
        assert_eq!(
            text(&format!(
                "select count(*) from actionflow._webhook where options::text like '%{rotated}%' or encode(token_hash, 'escape') = '{rotated}'"
            )),
            "0"
        );
    }

    #[pg_test]
    fn t21_t23_the_body_is_mapped_and_what_cannot_start_names_its_field() {
        scene();
        hmac_in_sql();
        let token = trigger(&format!(r#"{{"signature": {SIGNATURE}}}"#));
        set_mode("live");
        let send = |body: &str| send(&token, "POST", signed(body), body);
        let first =
            send(r#"{"targetUserIds": ["1"], "flowInvocationId": "a", "variables": {"x": 1}}"#);
        assert!(
            first.starts_with("202 ") && first.contains(r#""flowInvocationId": "a""#),
            "{first}"
        );
        let again = send(r#"{"targetUserIds": ["1"], "flowInvocationId": "a"}"#);
        assert!(
            again.starts_with("200 ") && again.contains(r#""duplicate": true"#),
            "{again}"
        );
        for (body, status, field) in [
            ("{", "422", None),
            ("{}", "422", Some("targetUserIds")),
            (
                r#"{"targetUserIds": ["1", ""]}"#,
                "422",
                Some("targetUserIds[1]"),
            ),
            (
                r#"{"targetUserIds": ["1"], "variables": []}"#,
                "422",
                Some("variables"),
            ),
            (
                r#"{"targetUserIds": ["1"], "variables": {"x": "\u0000"}}"#,
                "422",
                Some("variables.x"),
            ),
            (
                r#"{"targetUserIds": ["1"], "variables": {"x": 1e400000}}"#,
                "422",
                Some("variables.x"),
            ),
        ] {
            let answer = send(body);
            assert!(answer.starts_with(status), "{body}: {answer}");
            if let Some(field) = field {
                assert!(
                    answer.contains(&format!(r#""field": "{field}""#)),
                    "{body}: {answer}"
                );
            }
        }
        assert!(send(r#"{"targetUserIds": ["2"]}"#).starts_with("202 "));
        assert_eq!(text("select count(*) from actionflow.runs"), "2");
    }

    // What a webhook may bring can be tried, however much room its numbers take in the database.
    #[pg_test]
    fn a_payload_is_measured_by_its_text() {
        let map = |zeros: usize| {
            format!(
                "select actionflow.map_payload('{{\"kind\": \"fields\", \"targetUserIds\": \"$.u\"}}',
                     ('{{\"u\": \"7\", \"l\": [0' || repeat(',0', {zeros}) || ']}}')::jsonb)"
            )
        };
        assert_eq!(text(&map(500_000)), r#"{"targetUserIds": ["7"]}"#);
        assert!(error_of(&map(530_000)).starts_with("54000 | the payload is larger than 1 MiB"));
    }

    #[pg_test]
    fn mistakes_in_a_configuration_are_told_when_it_is_saved() {
        scene();
        let add = |options: &str| {
            error_of(&format!(
                "select * from actionflow.add_webhook_trigger('welcome', '{options}')"
            ))
        };
        for (options, start) in [
            (
                r#"{"signatures": {}}"#,
                "22023 | invalid webhook trigger options: unknown key \"signatures\"",
            ),
            (
                r#"{"signature": {"preset": "github"}}"#,
                "22023 | invalid signature configuration: ",
            ),
            (
                r#"{"mapping": {"kind": "xslt"}}"#,
                "22023 | invalid mapping: ",
            ),
            (
                r#"{"allowed_ips": ["localhost"]}"#,
                "22023 | invalid webhook trigger options: \"localhost\" is no network",
            ),
            (
                r#"{"handshake": "meta"}"#,
                "22023 | invalid webhook trigger options: the handshake of meta needs a \"verify_token\"",
            ),
            (
                "[]",
                "22023 | invalid webhook trigger options: expected an object",
            ),
        ] {
            let error = add(options);
            assert!(error.starts_with(start), "{error}");
        }
        assert_eq!(
            text("select count(*) from actionflow.triggers where kind = 'webhook'"),
            "0"
        );
        assert!(
            error_of("select actionflow.signature_preset('nobody')")
                .starts_with("22023 | there is no signature preset for \"nobody\"")
        );
    }
}
