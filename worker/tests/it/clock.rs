//! What the clock drives, in paused time: how often, at once while there is more, and on after a failure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actionflow_worker::clock::{self, Checks, Clockwork};
use actionflow_worker::db::DbError;
use actionflow_worker::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// One of the calls: when it was made, since the start, and what it is to answer.
struct Call<T> {
    made: Mutex<Vec<Duration>>,
    /// `None` fails; when these are used up, there is nothing to do.
    answers: Mutex<VecDeque<Option<T>>>,
    /// How long the first calls take; later ones take no time.
    delays: Mutex<VecDeque<Duration>>,
}

impl<T> Default for Call<T> {
    fn default() -> Self {
        Self {
            made: Mutex::default(),
            answers: Mutex::default(),
            delays: Mutex::default(),
        }
    }
}

impl<T: Default> Call<T> {
    fn will_answer(&self, answers: impl IntoIterator<Item = Option<T>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn will_take(&self, delays: impl IntoIterator<Item = Duration>) {
        self.delays.lock().unwrap().extend(delays);
    }

    fn made(&self) -> Vec<Duration> {
        self.made.lock().unwrap().clone()
    }

    async fn make(&self, start: Instant) -> Result<T, DbError> {
        self.made.lock().unwrap().push(start.elapsed());
        let delay = self.delays.lock().unwrap().pop_front();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        let answer = self.answers.lock().unwrap().pop_front();
        answer
            .unwrap_or(Some(T::default()))
            .ok_or(DbError::Silent(Duration::from_secs(1)))
    }
}

struct Fake {
    start: Instant,
    ticks: Call<Checks>,
    bulk_jobs: Call<u64>,
    upkeep: Call<Value>,
    metrics: Arc<Metrics>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            ticks: Call::default(),
            bulk_jobs: Call::default(),
            upkeep: Call::default(),
            metrics: Arc::default(),
        })
    }

    /// Lets the clock run for so long, and a quarter of a second more so that what happens at the end is in.
    async fn run_for(self: &Arc<Self>, seconds: u64) {
        let limit = Duration::from_secs(seconds) + Duration::from_millis(250);
        let running = clock::run(self.clone(), self.metrics.clone());
        timeout(limit, running)
            .await
            .expect_err("the clock never ends");
    }
}

impl Clockwork for Fake {
    async fn tick(&self, max_checks: u32) -> Result<Checks, DbError> {
        assert_eq!(max_checks, 1000);
        self.ticks.make(self.start).await
    }

    async fn run_bulk_jobs(&self, max_customers: u32) -> Result<u64, DbError> {
        assert_eq!(max_customers, 1000);
        self.bulk_jobs.make(self.start).await
    }

    async fn maintain(&self) -> Result<Value, DbError> {
        self.upkeep.make(self.start).await
    }
}

fn seconds(seconds: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    seconds.into_iter().map(Duration::from_secs).collect()
}

fn half_seconds(halves: impl IntoIterator<Item = u32>) -> Vec<Duration> {
    let half = Duration::from_millis(500);
    halves.into_iter().map(|count| half * count).collect()
}

fn checks(checked: u64, changed: u64) -> Option<Checks> {
    Some(Checks { checked, changed })
}

#[tokio::test(start_paused = true)]
async fn segments_are_looked_at_twice_a_second_bulk_jobs_once_and_upkeep_every_minute() {
    let fake = Fake::new();
    fake.run_for(120).await;
    assert_eq!(fake.ticks.made(), half_seconds(1..=240));
    assert_eq!(fake.bulk_jobs.made(), seconds(1..=120));
    assert_eq!(fake.upkeep.made(), seconds([60, 120]));
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_of_checks_is_followed_by_another_at_once_and_all_are_counted() {
    let fake = Fake::new();
    fake.ticks
        .will_answer([checks(1000, 400), checks(1000, 0), checks(999, 7)]);
    fake.run_for(1).await;
    assert_eq!(fake.ticks.made(), half_seconds([1, 1, 1, 2]));
    assert_eq!(fake.metrics.segment_checks.get(), 2999);
    assert_eq!(fake.metrics.segment_crossings.get(), 407);
}

#[tokio::test(start_paused = true)]
async fn a_bulk_job_goes_on_at_once_until_nothing_is_left() {
    let fake = Fake::new();
    fake.bulk_jobs
        .will_answer([Some(1000), Some(1), Some(0), Some(5)]);
    fake.run_for(3).await;
    assert_eq!(fake.bulk_jobs.made(), seconds([1, 1, 1, 2, 2, 3]));
    assert_eq!(fake.metrics.bulk_customers.get(), 1006);
}

#[tokio::test(start_paused = true)]
async fn upkeep_goes_on_at_once_while_its_report_asks_for_more() {
    let fake = Fake::new();
    let report = |more: bool| Some(json!({"more": more}));
    fake.upkeep
        .will_answer([report(true), report(true), report(false)]);
    fake.run_for(120).await;
    assert_eq!(fake.upkeep.made(), seconds([60, 60, 60, 120]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_and_the_next_try_waits_for_its_time() {
    let fake = Fake::new();
    fake.ticks
        .will_answer([None, None, checks(1000, 1), None, checks(2, 2)]);
    fake.bulk_jobs.will_answer([Some(10), None, Some(20)]);
    fake.upkeep.will_answer([None]);
    fake.run_for(120).await;
    assert_eq!(fake.ticks.made()[..6], half_seconds([1, 2, 3, 3, 4, 5]));
    assert_eq!(fake.bulk_jobs.made()[..5], seconds([1, 1, 2, 2, 3]));
    assert_eq!(fake.upkeep.made(), seconds([60, 120]));
    assert_eq!(fake.metrics.database_errors.get(), 5);
    assert_eq!(fake.metrics.segment_crossings.get(), 3);
    assert_eq!(fake.metrics.bulk_customers.get(), 30);
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_another_one() {
    let hour = Duration::from_secs(3600);
    let fake = Fake::new();
    fake.bulk_jobs.will_take([hour]);
    fake.upkeep.will_take([hour]);
    fake.run_for(90).await;
    assert_eq!(fake.ticks.made(), half_seconds(1..=180));
    assert_eq!(
        (fake.bulk_jobs.made(), fake.upkeep.made()),
        (seconds([1]), seconds([60]))
    );
}

#[tokio::test(start_paused = true)]
async fn half_a_second_is_counted_from_the_start_of_a_call_and_missed_ones_are_left_out() {
    let fake = Fake::new();
    fake.ticks
        .will_take([350, 350, 1100].map(Duration::from_millis));
    fake.run_for(3).await;
    let made: Vec<u128> = fake.ticks.made().iter().map(Duration::as_millis).collect();
    assert_eq!(made, [500, 1000, 1500, 2600, 3100]);
}
