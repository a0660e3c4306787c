//! The metrics page.

use std::collections::BTreeSet;
use std::time::Duration;

use actionflow_worker::db::QueueStat;
use actionflow_worker::telemetry::Metrics;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

#[test]
fn the_documented_metrics_are_those_of_the_page() {
    let metrics = Metrics::default();
    // What has labels is on the page once there is something to say.
    let _crm = metrics.endpoint("crm");
    metrics.set_queue(&[QueueStat {
        endpoint: "crm".to_owned(),
        mode: "live".to_owned(),
        pending: 1,
        running: 0,
        oldest_due_seconds: 0.0,
    }]);
    metrics.webhooks.answered(202, Duration::ZERO);
    let page = metrics.render().unwrap();
    let served: BTreeSet<(String, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => (format!("{name}_total"), kind),
            "info" => (format!("{name}_info"), kind),
            _ => (name.to_owned(), kind),
        })
        .collect();
    let documented: BTreeSet<(String, &str)> = OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("| `actionflow_")?.split_once("` | "))
        .map(|(name, rest)| {
            let kind = rest.split(' ').next().unwrap_or_default();
            (format!("actionflow_{name}"), kind)
        })
        .collect();
    assert_eq!(served, documented);
}
