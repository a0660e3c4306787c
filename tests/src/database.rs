//! A database of one test.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::{Cluster, TEMPLATE};
use crate::paths::{pg_program, run};
use crate::session::{APPLICATION, Session};
use crate::worker::{Worker, WorkerBuilder};

/// A database with actionflow installed and nothing in it. Dropped with this value,
/// and then the server's log must hold no complaint about it that the test did not provoke.
#[derive(Debug)]
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
    /// The connection that most statements of a test use.
    pub sql: Session,
    expected: Vec<String>,
}

impl Database<'static> {
    /// A database in the cluster that all tests share.
    pub async fn new() -> Self {
        Database::within(Cluster::shared()).await
    }
}

impl<'a> Database<'a> {
    /// A database in `cluster`.
    pub async fn within(cluster: &'a Cluster) -> Self {
        Self::copy_of(cluster, TEMPLATE).await
    }

    /// A database of `cluster` without the extension.
    pub async fn bare(cluster: &'a Cluster) -> Self {
        Self::copy_of(cluster, "template0").await
    }

    /// The database of the same name in a standby of its cluster.
    pub async fn on<'b>(&self, standby: &'b Cluster) -> Database<'b> {
        Database {
            cluster: standby,
            name: self.name.clone(),
            sql: Session::connect(&standby.url(&self.name)).await,
            expected: self.expected.clone(),
        }
    }

    async fn copy_of(cluster: &'a Cluster, template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.sql(
            "postgres",
            &format!("create database {name} template {template}"),
        );
        let sql = Session::connect(&cluster.url(&name)).await;
        Self {
            cluster,
            name,
            sql,
            expected: Vec::new(),
        }
    }

    /// Another connection, for what two sessions do to each other.
    pub async fn session(&self) -> Session {
        Session::connect(&self.url()).await
    }

    /// Opens [`Database::sql`] anew, after the server was restarted.
    pub async fn reconnect(&mut self) {
        self.sql = self.session().await;
    }

    /// Its URL, for the superuser.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Its URL, for `role`.
    pub fn url_as(&self, role: &str) -> String {
        self.url().replace("//postgres@", &format!("//{role}@"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A worker for this database, to be configured and started.
    pub fn worker_builder(&self) -> WorkerBuilder {
        WorkerBuilder::new(self.url())
    }

    /// A worker for this database that may call loopback addresses, ready.
    pub async fn worker(&self) -> Worker {
        self.worker_builder().start().await
    }

    /// Lets the server's log hold lines with `text`.
    pub fn expect_in_log(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// Runs a script through psql and returns what psql prints: bare values, joined by `|`.
    ///
    /// # Panics
    /// When psql fails.
    pub fn psql(&self, script: &str) -> String {
        self.run_psql(&["-A", "-t"], script)
            .unwrap_or_else(|said| panic!("{script}\nfailed: {said}"))
    }

    /// Runs a script through psql and returns what a person would see.
    ///
    /// # Errors
    /// With what psql says when it fails.
    pub fn psql_aligned(&self, script: &str) -> Result<String, String> {
        self.run_psql(&[], script)
    }

    fn run_psql(&self, options: &[&str], script: &str) -> Result<String, String> {
        let mut child = Command::new(pg_program("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d"])
            .arg(self.url())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql can be started");
        let mut input = child.stdin.take().expect("psql's input is a pipe");
        let script = script.to_owned();
        // Beside the reading, or a full pipe in each direction would stop both sides.
        let writing = std::thread::spawn(move || input.write_all(script.as_bytes()));
        let output = child.wait_with_output().expect("psql ends");
        // A psql that stops at an error closes its input; its status tells.
        let _ = writing.join();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Copies everything into the database `target` with `pg_dump` and `psql`.
    pub fn dump_into(&self, target: &Database<'_>) {
        let dump = run(Command::new(pg_program("pg_dump"))
            .arg("--dbname")
            .arg(self.url())
            .stdin(Stdio::null()));
        let file = std::env::temp_dir().join(format!(
            "actionflow-{}-{}.sql",
            std::process::id(),
            self.name
        ));
        std::fs::write(&file, dump).expect("the dump can be written");
        run(Command::new(pg_program("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f"])
            .arg(&file)
            .arg("--dbname")
            .arg(target.url())
            .stdin(Stdio::null()));
        std::fs::remove_file(&file).expect("the dump can be removed");
    }

    /// Lines of the server's log that should not be there: complaints about this database which
    /// no statement of a test provoked, and crashes of any server process.
    fn complaints(&self) -> Vec<String> {
        const LEVELS: [&str; 4] = ["WARNING:  ", "ERROR:  ", "FATAL:  ", "PANIC:  "];
        const PROVOKING: [&str; 2] = [APPLICATION, "psql"];
        // Tests end workers at any moment, and a busy server notices it in the middle of an answer.
        const WORKER_ENDED: &str = "FATAL:  connection to client lost";
        let here = format!(" db={} ", self.name);
        let is_complaint = |line: &str| {
            line.contains(&here)
                && LEVELS.iter().any(|level| line.contains(level))
                && !PROVOKING
                    .iter()
                    .any(|name| line.contains(&format!(" app={name} ")))
                && !line.contains(WORKER_ENDED)
                && !self.expected.iter().any(|text| line.contains(text))
        };
        // One that a test provokes is named: what allows any line does not allow it.
        let is_crash = |line: &str| {
            let mut expected = self.expected.iter().filter(|text| !text.is_empty());
            line.contains("was terminated by signal") && !expected.any(|text| line.contains(text))
        };
        let log = self.cluster.log();
        log.lines()
            .filter(|line| is_complaint(line) || is_crash(line))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let complaints = self.complaints();
        // Failing is fine: the cluster takes its databases with it.
        let _ = self
            .cluster
            .psql(
                "postgres",
                &format!("drop database if exists {} with (force)", self.name),
            )
            .output();
        if !std::thread::panicking() {
            assert!(
                complaints.is_empty(),
                "the server's log holds: {complaints:#?}"
            );
        }
    }
}
