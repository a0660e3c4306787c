//! Claiming and completing, as the worker does it.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{scene, text};
    use pgrx::prelude::*;

    const STATES: &str = "select string_agg(d.id || ' ' || d.state || ' ' || d.attempts, ', ' order by d.id) from actionflow.deliveries as d";

    /// Claims as of a moment after now, and gives token and ids.
    fn claim(max: i32, after: &str) -> (i64, Vec<i64>) {
        let row = Spi::get_two::<i64, Vec<i64>>(&format!(
            "select c.lease_token, c.ids from actionflow.claim_deliveries({max}, as_of => clock_timestamp() + interval '{after}') as c"
        ))
        .expect("claim");
        (row.0.expect("token"), row.1.expect("ids"))
    }

    fn complete(token: i64, id: i64, outcome: &str) -> String {
        text(&format!(
            "select actionflow.complete_deliveries(array[{token}], array[{id}], array['{outcome}'], array[1000], array[500],
                 array['x'], array[now()], array[3], array['body'])"
        ))
    }

    fn start(users: &str) {
        Spi::run(&format!(
            "select actionflow.start_flow('welcome', '{{\"targetUserIds\": {users}}}')"
        ))
        .expect("start");
    }

    #[pg_test]
    fn a_delivery_goes_from_pending_to_running_to_delivered() {
        scene();
        start("[\"1\"]");
        assert_eq!(text(STATES), "1 pending 0");
        let (token, ids) = claim(10, "0");
        assert_eq!(ids.len(), 1);
        assert_eq!(text(STATES), "1 running 1");
        assert_eq!(claim(10, "0").1, Vec::<i64>::new());
        assert_eq!(complete(token, ids[0], "delivered"), "{1}");
        assert_eq!(text(STATES), "1 delivered 1");
        assert_eq!(text("select count(*) from actionflow._delivery"), "0");
    }

    #[pg_test]
    fn a_lost_lease_completes_nothing() {
        scene();
        start("[\"1\"]");
        let (first, ids) = claim(10, "0");
        let (second, again) = claim(10, "13 seconds");
        assert_eq!(again, ids);
        for outcome in ["delivered", "dead", "retry", "gone"] {
            assert_eq!(complete(first, ids[0], outcome), "{}");
        }
        assert_eq!(
            text(&format!(
                "select actionflow.renew_leases(array[{first}], array[{}])",
                ids[0]
            )),
            "{}"
        );
        assert_eq!(
            text(&format!(
                "select actionflow.release_deliveries(array[{first}], array[{}])",
                ids[0]
            )),
            "{}"
        );
        assert_eq!(text(STATES), "1 running 2");
        assert_eq!(complete(second, ids[0], "delivered"), "{1}");
        assert_eq!(
            text(
                "select string_agg(a.attempt || ' ' || coalesce(a.error, ''), ', ' order by a.attempt) from actionflow.delivery_attempts as a"
            ),
            "1 the worker was lost before it could say what happened, 2 x"
        );
    }

    #[pg_test]
    fn a_dead_delivery_can_be_replayed_with_its_whole_schedule() {
        scene();
        start("[\"1\"]");
        let (token, ids) = claim(10, "0");
        complete(token, ids[0], "retry");
        let (token, ids) = claim(10, "2 seconds");
        complete(token, ids[0], "dead");
        assert_eq!(text(STATES), "1 dead 2");
        assert_eq!(text("select count(*) from actionflow.dead_letters"), "1");
        Spi::run("select actionflow.replay_delivery(1)").expect("replay");
        let (token, ids) = claim(10, "1 second");
        assert_eq!(
            text(&format!(
                "select c.attempt || ' ' || c.retry from actionflow.claimed_deliveries({token}, array[{}]) as c",
                ids[0]
            )),
            "3 0"
        );
        complete(token, ids[0], "delivered");
        assert_eq!(
            text("select count(*) from actionflow.delivery_attempts"),
            "3"
        );
    }

    #[pg_test]
    fn gone_disables_the_endpoint_and_keeps_the_delivery() {
        scene();
        start("[\"1\"]");
        let (token, ids) = claim(10, "0");
        complete(token, ids[0], "gone");
        assert_eq!(
            text(
                "select h.state || ': ' || h.disabled_reason from actionflow.endpoint_health as h"
            ),
            "disabled: answered 410 Gone"
        );
        assert_eq!(claim(10, "1 hour").1, Vec::<i64>::new());
        Spi::run("select actionflow.enable_endpoint('crm')").expect("enable");
        assert_eq!(claim(10, "1 hour").1.len(), 1);
    }

    #[pg_test]
    fn max_in_flight_counts_leases_and_not_workers() {
        scene();
        Spi::run("select actionflow.update_endpoint('crm', '{\"max_in_flight\": 2}')")
            .expect("option");
        start("[\"1\", \"2\", \"3\", \"4\"]");
        let (token, ids) = claim(100, "0");
        assert_eq!(ids.len(), 2);
        assert_eq!(claim(100, "0").1.len(), 0);
        complete(token, ids[0], "delivered");
        assert_eq!(claim(100, "0").1.len(), 1);
    }

    #[pg_test]
    fn a_rate_limit_gives_out_tokens_and_says_when_the_next_one_comes() {
        scene();
        Spi::run("select actionflow.update_endpoint('crm', '{\"rate_per_second\": 2}')")
            .expect("option");
        start("[\"1\", \"2\", \"3\", \"4\"]");
        assert_eq!(claim(100, "10 seconds").1.len(), 2);
        assert_eq!(claim(100, "10 seconds").1.len(), 0);
        assert_eq!(
            text("select c.next_claim_at between t.t and t.t + interval '1 second'
                  from (select clock_timestamp() + interval '10 seconds' as t) as t, actionflow.claim_deliveries(100, as_of => t.t) as c"),
            "true"
        );
        assert_eq!(claim(100, "11 seconds").1.len(), 2);
    }

    #[pg_test]
    fn on_an_ordered_endpoint_the_earlier_delivery_to_a_customer_holds_the_later_one() {
        scene();
        Spi::run("select actionflow.update_endpoint('crm', '{\"ordered\": true}')")
            .expect("option");
        start("[\"1\"]");
        start("[\"1\", \"2\"]");
        let (token, ids) = claim(100, "0");
        assert_eq!(ids, [1, 3]);
        complete(token, 1, "retry");
        assert_eq!(claim(100, "0").1, Vec::<i64>::new());
        let (token, ids) = claim(100, "2 seconds");
        assert_eq!(ids, [1]);
        complete(token, 1, "dead");
        assert_eq!(claim(100, "3 seconds").1, [2]);
    }

    #[pg_test]
    fn an_action_that_waits_is_followed_only_when_all_its_deliveries_are_made() {
        scene();
        Spi::run(
            "select actionflow.create_endpoint('audit', 'http://127.0.0.1:9/audit');
             select actionflow.update_flow('welcome', '{\"actions\": [
                 {\"name\": \"one\", \"type\": \"notify\", \"endpoints\": [\"crm\", \"audit\"], \"wait\": true},
                 {\"name\": \"two\", \"type\": \"notify\", \"endpoints\": [\"crm\"]}]}');
             select * from actionflow.publish_flow('welcome')",
        )
        .expect("flow");
        start("[\"1\", \"2\"]");
        let (token, ids) = claim(100, "0");
        assert_eq!(ids.len(), 4);
        complete(token, 1, "delivered");
        assert_eq!(
            text("select count(*) from actionflow.deliveries where action = 'two'"),
            "0"
        );
        complete(token, 2, "delivered");
        assert_eq!(
            text("select string_agg(user_id, ',') from actionflow.deliveries where action = 'two'"),
            "1"
        );
        complete(token, 3, "dead");
        complete(token, 4, "delivered");
        assert_eq!(
            text(
                "select string_agg(concat_ws(' ', r.user_id, r.state, r.error), ', ' order by r.id) from actionflow.runs as r"
            ),
            "1 completed, 2 failed a delivery of action \"one\" is dead or cancelled"
        );
    }

    #[pg_test]
    fn a_released_delivery_has_not_used_an_attempt() {
        scene();
        start("[\"1\"]");
        let (token, ids) = claim(10, "0");
        assert_eq!(
            text(&format!(
                "select actionflow.release_deliveries(array[{token}], array[{}])",
                ids[0]
            )),
            "{1}"
        );
        assert_eq!(text(STATES), "1 pending 0");
    }

    #[pg_test]
    fn the_profile_is_read_when_it_is_sent_and_an_odd_id_harms_nobody() {
        scene();
        Spi::run("insert into customers values (1, 'old@example.com', 'Ana')").expect("insert");
        start("[\"1\", \"nobody\", \"99999999999999999999\", \"01\"]");
        Spi::run("update customers set email = 'new@example.com'").expect("update");
        let (token, ids) = claim(10, "0");
        assert_eq!(ids.len(), 4);
        assert_eq!(
            text(&format!(
                "select string_agg(c.body::jsonb -> 'data' ->> 'user', ' ' order by c.id)
                from actionflow.claimed_deliveries({token}, '{{1,2,3,4}}') as c"
            )),
            "{\"id\": \"1\", \"email\": \"new@example.com\", \"first_name\": \"Ana\"} {\"id\": \"nobody\"} \
             {\"id\": \"99999999999999999999\"} {\"id\": \"01\"}"
        );
    }
}
