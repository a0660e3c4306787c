//! Enrich as far as it goes without a worker: definitions, options, settings and their errors.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{error_of, run, scene, text};
    use pgrx::prelude::*;
    use serde_json::json;

    /// Keys of an enrich action beside name, type and endpoint, with what the definition's error says.
    const ACTIONS: &[(&str, &str)] = &[
        (
            "\"wait\": true",
            "unknown key \"wait\" | At path $.actions[0]. | Use only: name, type, endpoint, timeout_ms, on_failure, cache_seconds, cache_by.",
        ),
        (
            "\"timeout_ms\": 9",
            "9 is out of range | At path $.actions[0].timeout_ms. | Use a whole number of milliseconds from 10 to 60000.",
        ),
        (
            "\"timeout_ms\": 60001",
            "60001 is out of range | At path $.actions[0].timeout_ms. | Use a whole number of milliseconds from 10 to 60000.",
        ),
        (
            "\"on_failure\": \"ignore\"",
            "unknown \"on_failure\" \"ignore\" | At path $.actions[0].on_failure. | Use one of: allow, block, challenge, error.",
        ),
        (
            "\"cache_seconds\": 86401",
            "86401 is out of range | At path $.actions[0].cache_seconds. | Use a whole number of seconds from 0 to 86400.",
        ),
        (
            "\"cache_by\": [\"ip\", 7]",
            "expected a property's name, got a number | At path $.actions[0].cache_by[1]. | Give a property's name.",
        ),
    ];

    #[pg_test]
    fn a_mistake_in_an_enrich_action_is_told_with_its_place() {
        scene();
        for (keys, expected) in ACTIONS {
            let action =
                format!("{{\"name\": \"a\", \"type\": \"enrich\", \"endpoint\": \"crm\", {keys}}}");
            assert_eq!(
                error_of(&format!(
                    "select actionflow.create_flow('x', '{{\"actions\": [{action}]}}')"
                )),
                format!("22023 | invalid flow definition: {expected}")
            );
        }
        assert_eq!(
            error_of(
                "select actionflow.create_flow('x', '{\"actions\": [{\"name\": \"a\", \"type\": \"enrich\", \"endpoint\": \"nope\"}]}')"
            ),
            "42704 | endpoint \"nope\" does not exist | At path $.actions[0].endpoint. | Create it with actionflow.create_endpoint."
        );
    }

    /// Statements with what they must say.
    const MISTAKES: &[(&str, &str)] = &[
        (
            "select actionflow.create_endpoint('e', 'http://example.com', '{\"breaker_failures\": 0}')",
            "22023 | invalid endpoint options: 0 is out of range | At path $.breaker_failures. | Use a whole number from 1 to 1000.",
        ),
        (
            "select actionflow.create_endpoint('e', 'http://example.com', '{\"breaker_seconds\": 0.05}')",
            "22023 | invalid endpoint options: 0.05 is out of range | At path $.breaker_seconds. | Use a number of seconds from 0.1 to 3600.",
        ),
        (
            "select actionflow.update_endpoint('crm', '{\"format\": \"set\"}')",
            "22023 | an endpoint of format \"set\" needs the option \"set\" | Give it with \"issuer\" and \"algorithm\", such as {\"issuer\": \"https://example.com\", \"algorithm\": \"HS256\"}.",
        ),
        (
            "select actionflow.set_setting('enrich_budget_ms', '9')",
            "22023 | invalid value for setting \"enrich_budget_ms\" | Give a whole number of milliseconds from 10 to 300000.",
        ),
        (
            "select actionflow.set_setting('enrich_budget_ms', '300001')",
            "22023 | invalid value for setting \"enrich_budget_ms\" | Give a whole number of milliseconds from 10 to 300000.",
        ),
        (
            "select actionflow.set_setting('enrich_budget_ms', '10.5')",
            "22023 | invalid value for setting \"enrich_budget_ms\" | Give a whole number of milliseconds from 10 to 300000.",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', 'login', '{\"fil\": {}}')",
            "22023 | invalid options: unknown key \"fil\" | At path $. | Use only: user_id, properties, fill, on_block, on_challenge.",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', 'login', '{\"fill\": {\"plan\": 1}}')",
            "22023 | invalid options: expected a path into the answer, got a number | At path $.fill.plan. | Give a path into the answer.",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', 'login', '{\"on_block\": \"drop\"}')",
            "22023 | invalid options: unknown \"on_block\" \"drop\" | At path $.on_block. | Use one of: insert, skip, refuse.",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', 'login')",
            "42703 | column \"user_id\" does not exist | Name columns of the table in \"user_id\", \"properties\" and \"fill\".",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', 'login', '{\"user_id\": \"id\", \"fill\": {\"nope\": \"action\"}}')",
            "42703 | column \"nope\" does not exist | Name columns of the table in \"user_id\", \"properties\" and \"fill\".",
        ),
        (
            "select actionflow.enrich_before_insert('public.customers', ' login', '{\"user_id\": \"id\"}')",
            "22023 | invalid event name ' login' | Use 1 to 100 printable characters without \"/\" and without blanks at either end.",
        ),
        (
            "select actionflow.enrich_before_insert(null, 'login')",
            "22004 | relation must not be null | Name the table whose inserts ask first.",
        ),
        (
            "select actionflow.stop_enrich_before_insert('public.customers', 'login')",
            "42704 | inserts into public.customers do not ask by event \"login\" | actionflow.enrich_before_insert makes them.",
        ),
    ];

    #[pg_test]
    fn mistakes_around_enrich_are_told_with_code_detail_and_hint() {
        scene();
        for (statement, expected) in MISTAKES {
            assert_eq!(error_of(statement), *expected, "{statement}");
        }
    }

    const EC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBD5Q5qq0aUqgv2GtALmTKumaMs1+\nzzePZUxsCdEqQ0/OR/6glLaVo0VIwZf6N83qS1VCrhH1mGgaV5Znbwzf+w==\n-----END PUBLIC KEY-----";
    const EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTSZGCl421s6E8B9M\nUtPSsTH4NBK39UgM8/Pxi7LYtpyhRANCAAQEPlDmqrRpSqC/Ya0AuZMq6ZoyzX7P\nN49lTGwJ0SpDT85H/qCUtpWjRUjBl/o3zepLVUKuEfWYaBpXlmdvDN/7\n-----END PRIVATE KEY-----";

    #[pg_test]
    fn an_unusable_key_is_told_and_not_repeated() {
        scene();
        let issuer = "i";
        let cases = [
            (
                json!({"answer_key": {"algorithm": "HS512", "key": "aHVudGVyMg=="}}),
                "unknown algorithm | At path $.answer_key.algorithm. | Use one of: \"HS256\", \"RS256\", \"ES256\", \"EdDSA\".",
            ),
            (
                json!({"answer_key": {"algorithm": "HS256", "key": "aHVudGVyMg=="}}),
                "the secret has the wrong form | At path $.answer_key.key. | Use the base64 of at least 32 random bytes, with or without whsec_ before it.",
            ),
            (
                json!({"answer_key": {"algorithm": "RS256", "key": EC_PUBLIC}}),
                "the key does not fit the algorithm | At path $.answer_key.key. | RS256 takes an RSA key, ES256 one on the curve P-256, EdDSA an Ed25519 key.",
            ),
            (
                json!({"answer_key": {"algorithm": "ES256", "key": EC_PRIVATE}}),
                "the key is not a public key in PEM form | At path $.answer_key.key. | Use the text from BEGIN PUBLIC KEY to END PUBLIC KEY.",
            ),
            (
                json!({"set": {"issuer": issuer, "algorithm": "ES256", "key": EC_PUBLIC}}),
                "the key is not a private key in PEM form | At path $.set.key. | Use the text from BEGIN PRIVATE KEY to END PRIVATE KEY (PKCS #8, not encrypted).",
            ),
            (
                json!({"set": {"issuer": issuer, "algorithm": "EdDSA", "key": EC_PRIVATE}}),
                "the key does not fit the algorithm | At path $.set.key. | RS256 takes an RSA key, ES256 one on the curve P-256, EdDSA an Ed25519 key.",
            ),
            (
                json!({"set": {"issuer": issuer, "algorithm": "HS256", "key": "aHVudGVyMg=="}}),
                "HS256 takes no key of its own | At path $.set.key. | Leave it out: the endpoint's signing secret is used.",
            ),
            (
                json!({"set": {"algorithm": "ES256", "key": EC_PRIVATE}}),
                "key \"issuer\" is missing | At path $.set. | Add the key \"issuer\".",
            ),
        ];
        for (options, expected) in cases {
            let expected = format!("22023 | invalid endpoint options: {expected}");
            for statement in [
                format!(
                    "select actionflow.create_endpoint('e', 'http://example.com', $o${options}$o$)"
                ),
                format!("select actionflow.update_endpoint('crm', $o${options}$o$)"),
            ] {
                assert_eq!(error_of(&statement), expected);
            }
        }
    }

    #[pg_test]
    fn where_no_worker_listens_on_failure_decides_at_once() {
        scene();
        for on_failure in ["challenge", "error"] {
            run(&format!(
                "select actionflow.create_flow('{on_failure}', '{{\"actions\": [{{\"name\": \"risk\", \"type\": \"enrich\",
                     \"endpoint\": \"crm\", \"timeout_ms\": 60000, \"on_failure\": \"{on_failure}\"}}]}}');
                 select * from actionflow.publish_flow('{on_failure}');
                 select actionflow.add_event_trigger('{on_failure}', 'on-{on_failure}')"
            ));
        }
        assert_eq!(
            text("select actionflow.emit_event('on-challenge', '1') - 'event_id'"),
            "{\"action\": \"challenge\", \"results\": {\"risk\": {\"action\": \"challenge\", \"failure\": \"no_worker\"}}, \"custom_claims\": {}}"
        );
        assert_eq!(
            error_of("select actionflow.emit_event('on-error', '1')"),
            "38000 | enrich action \"risk\" of flow \"error\" failed: no_worker | actionflow.enrich_attempts has the attempts; \"on_failure\" of the action says what a failure means."
        );
    }

    #[pg_test]
    fn options_of_an_endpoint_that_are_null_go_back_to_their_defaults() {
        scene();
        let options = json!({"breaker_failures": 9, "breaker_seconds": 60, "format": "set",
            "set": {"issuer": "i", "algorithm": "HS256"}, "answer_key": {"algorithm": "ES256", "key": EC_PUBLIC}});
        run(&format!(
            "select actionflow.update_endpoint('crm', $o${options}$o$)"
        ));
        let settings = "select concat_ws(' ', e.breaker_failures, e.breaker_seconds, e.format, e.set_options ->> 'issuer',
            e.answer_key ->> 'algorithm') from actionflow._endpoint as e";
        assert_eq!(text(settings), "9 60 set i ES256");
        run(
            "select actionflow.update_endpoint('crm', '{\"breaker_failures\": null, \"breaker_seconds\": null, \"format\": null, \"set\": null, \"answer_key\": null}')",
        );
        assert_eq!(text(settings), "5 10 json");
    }
}
