//! Transactions of several sessions, step by step: what each does, in which order, whoever waits for whom.

use std::collections::VecDeque;
use std::time::Instant;

use actionflow_tests::{Database, PATIENCE, Session, SqlError, eventually};
use tokio::task::JoinHandle;

/// A step: the number of the session, and its statement.
pub(crate) type Step<'a> = (usize, &'a str);

/// A statement under way, which gives its session back.
type Running = JoinHandle<(Session, Result<Vec<String>, SqlError>)>;

/// A session that may be in the middle of a statement.
struct Actor {
    pid: i64,
    idle: Option<Session>,
    running: Option<Running>,
    steps: VecDeque<String>,
    has_failed: bool,
}

/// Runs transactions whose steps interleave as given. A step that waits for another session goes on in the background.
/// A transaction with an error is rolled back and its later steps are left out. Returns the errors.
pub(crate) async fn interleave(
    db: &Database<'_>,
    level: &str,
    steps: &[Step<'_>],
) -> Vec<SqlError> {
    let count = steps
        .iter()
        .map(|(actor, _)| actor + 1)
        .max()
        .unwrap_or_default();
    let mut actors = Vec::new();
    for _ in 0..count {
        let session = db.session().await;
        session.run(&format!("begin isolation level {level}")).await;
        actors.push(Actor::new(session).await);
    }
    for (number, statement) in steps {
        actors[*number].steps.push_back((*statement).to_owned());
    }
    let mut errors = Vec::new();
    let mut turns: VecDeque<usize> = steps.iter().map(|(number, _)| *number).collect();
    let started = Instant::now();
    while let Some(number) = turns.pop_front() {
        assert!(started.elapsed() < PATIENCE, "a step waits for ever");
        let actor = &mut actors[number];
        actor.advance(&db.sql).await;
        errors.extend(actor.take_if_done().await);
        if actor.running.is_some() {
            // Who of two waiting sessions goes on first is for the server to say.
            turns.push_back(number);
        } else {
            actor.start();
            actor.advance(&db.sql).await;
        }
    }
    for actor in &mut actors {
        errors.extend(actor.settle().await);
    }
    for actor in &actors {
        if let Some(session) = &actor.idle {
            session.run("commit").await;
        }
    }
    errors
}

impl Actor {
    async fn new(session: Session) -> Self {
        Self {
            pid: session.number("select pg_backend_pid()").await,
            idle: Some(session),
            running: None,
            steps: VecDeque::new(),
            has_failed: false,
        }
    }

    fn start(&mut self) {
        let statement = self.steps.pop_front().expect("a turn is a step");
        if self.has_failed {
            return;
        }
        let session = self.idle.take().expect("the step before has ended");
        self.running = Some(tokio::spawn(async move {
            let result = session.try_rows(&statement).await;
            (session, result)
        }));
    }

    /// Waits until the statement has ended or waits for another session.
    async fn advance(&self, observer: &Session) {
        let question = format!("select cardinality(pg_blocking_pids({}))", self.pid);
        eventually(PATIENCE, async || {
            let is_done = self.running.as_ref().is_none_or(JoinHandle::is_finished);
            if is_done || observer.number(&question).await > 0 {
                Ok(())
            } else {
                Err("neither done nor waiting".to_owned())
            }
        })
        .await;
    }

    async fn take_if_done(&mut self) -> Option<SqlError> {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle().await
        } else {
            None
        }
    }

    async fn settle(&mut self) -> Option<SqlError> {
        let running = self.running.take()?;
        let (session, result) = tokio::time::timeout(PATIENCE, running)
            .await
            .expect("a step waits for ever")
            .expect("a statement does not panic");
        if result.is_err() {
            self.has_failed = true;
            session.run("rollback").await;
        }
        self.idle = Some(session);
        result.err()
    }
}

/// A statement that another session runs meanwhile.
pub(crate) struct Meanwhile {
    pid: i64,
    running: Running,
}

impl Meanwhile {
    /// Starts a statement and does not wait for it.
    pub(crate) async fn start(session: Session, statement: &str) -> Self {
        let pid = session.number("select pg_backend_pid()").await;
        let statement = statement.to_owned();
        let running = tokio::spawn(async move {
            let result = session.try_rows(&statement).await;
            (session, result)
        });
        Self { pid, running }
    }

    /// Whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits until it waits for another session.
    pub(crate) async fn wait_until_blocked(&self, observer: &Session) {
        let question = format!("select cardinality(pg_blocking_pids({}))", self.pid);
        eventually(PATIENCE, async || {
            assert!(!self.is_finished(), "it has ended and waited for nobody");
            match observer.number(&question).await {
                0 => Err("waits for nobody".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
    }

    /// Waits until it waits for the session with this process id.
    pub(crate) async fn wait_until_blocked_by(&self, observer: &Session, blocker: i64) {
        let question = format!("select {blocker} = any(pg_blocking_pids({}))", self.pid);
        eventually(PATIENCE, async || {
            match observer.text(&question).await.as_str() {
                "t" => Ok(()),
                _ => Err(format!("does not wait for {blocker}")),
            }
        })
        .await;
    }

    /// Waits for its end; it must succeed.
    pub(crate) async fn finish(self) -> (Session, Vec<String>) {
        let (session, result) = tokio::time::timeout(PATIENCE * 2, self.running)
            .await
            .expect("the statement ends")
            .expect("it does not panic");
        (session, result.unwrap_or_else(|error| panic!("{error:#?}")))
    }
}
