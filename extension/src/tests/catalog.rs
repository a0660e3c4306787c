//! The configuration that a backend keeps in memory follows every change of it.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{error_of, scene, text};
    use pgrx::prelude::*;

    fn events() -> String {
        text("select count(*) from actionflow.events")
    }

    #[pg_test]
    fn a_trigger_that_comes_and_goes_is_seen_by_the_next_statement() {
        scene();
        Spi::run("insert into customers values (1)").expect("insert");
        assert_eq!(events(), "0");
        Spi::run("select actionflow.add_event_trigger('welcome', 'user-created'); insert into customers values (2)").expect("insert");
        assert_eq!(events(), "1");
        Spi::run("select actionflow.set_trigger_mode(max(t.id), 'disabled') from actionflow.triggers as t; insert into customers values (3)")
            .expect("insert");
        assert_eq!(events(), "1");
    }

    #[pg_test]
    fn a_change_that_is_rolled_back_is_forgotten() {
        scene();
        Spi::run(
            "do $$ begin
                 perform actionflow.add_event_trigger('welcome', 'user-created');
                 insert into customers values (1);
                 raise exception 'undo';
             exception when raise_exception then null;
             end $$;
             insert into customers values (2)",
        )
        .expect("statements");
        assert_eq!(events(), "0");
    }

    #[pg_test]
    fn an_archived_flow_is_started_by_nothing() {
        scene();
        Spi::run("select actionflow.add_event_trigger('welcome', 'user-created'); select actionflow.archive_flow('welcome'); insert into customers values (1)")
            .expect("statements");
        assert_eq!(events(), "0");
        assert_eq!(
            error_of(
                "select * from actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}')"
            ),
            "55000 | flow \"welcome\" is archived | Create a new flow; an archived one keeps its history only."
        );
    }

    #[pg_test]
    fn a_live_start_uses_the_published_version_and_a_test_the_draft() {
        scene();
        Spi::run(
            "select actionflow.update_flow('welcome', '{\"actions\": []}');
             select actionflow.add_test_user('1');
             select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}');
             select actionflow.start_flow('welcome', '{\"targetUserIds\": [\"1\", \"2\"]}', 'test')",
        )
        .expect("statements");
        assert_eq!(
            text(
                "select string_agg(concat_ws(' ', r.mode, coalesce(r.version::text, 'draft'), (select count(*) from actionflow.deliveries as d where d.run_id = r.id)), ', ' order by r.id) from actionflow.runs as r"
            ),
            "live 1 1, test draft 0"
        );
    }

    #[pg_test]
    fn a_published_version_never_changes() {
        scene();
        assert!(
            error_of("update actionflow._flow_version set definition = '{}'")
                .starts_with("55000 | a published version cannot be changed")
        );
        Spi::run("select actionflow.update_flow('welcome', '{\"actions\": []}'); select * from actionflow.publish_flow('welcome')").expect("publish");
        assert_eq!(
            text(
                "select jsonb_array_length(actionflow.flow_definition('welcome', 1) -> 'actions')"
            ),
            "1"
        );
        assert_eq!(
            text(
                "select jsonb_array_length(actionflow.flow_definition('welcome', 2) -> 'actions')"
            ),
            "0"
        );
    }
}
