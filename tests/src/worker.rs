//! The real worker as a child process.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::eventually::{PATIENCE, eventually};
use crate::http::get;
use crate::paths::{send_signal, worker_program};
use crate::process_log::ProcessLog;

/// What a worker is to be started with.
#[derive(Debug, Clone)]
pub struct WorkerBuilder {
    arguments: Vec<String>,
    expected: Vec<String>,
}

/// A worker that runs. Killed when dropped; then its log must hold no warning and
/// no error other than those announced with [`Worker::expect_in_log`].
#[derive(Debug)]
pub struct Worker {
    child: Child,
    log: ProcessLog,
    readers: Vec<JoinHandle<()>>,
    expected: Vec<String>,
    address: String,
}

/// How a worker ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// All that it had logged.
    pub log: String,
}

impl WorkerBuilder {
    /// A worker for the database at `url`, with loopback addresses allowed.
    pub(crate) fn new(url: String) -> Self {
        let arguments = [
            "--database-url",
            &url,
            "--listen",
            "127.0.0.1:0",
            "--allow-private-addresses",
        ];
        Self {
            arguments: arguments.map(str::to_owned).to_vec(),
            expected: Vec::new(),
        }
    }

    /// With loopback and private addresses refused, as in production.
    #[must_use]
    pub fn refusing_private_addresses(mut self) -> Self {
        self.arguments
            .retain(|argument| argument != "--allow-private-addresses");
        self
    }

    /// With one more flag and its value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// As another role of the database.
    #[must_use]
    pub fn database_url(mut self, url: String) -> Self {
        self.arguments[1] = url;
        self
    }

    /// Lets its log hold warnings and errors with `text`.
    #[must_use]
    pub fn expect_in_log(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// Starts it and waits until it is ready to deliver.
    pub async fn start(self) -> Worker {
        let worker = self.start_unready().await;
        worker.wait_until_ready().await;
        worker
    }

    /// Starts it and waits only until it serves `/readyz`.
    pub async fn start_unready(self) -> Worker {
        let mut worker = self.spawn();
        worker.address = eventually(PATIENCE, async || {
            assert!(
                worker.child.try_wait().is_ok_and(|status| status.is_none()),
                "the worker ended at once:\n{}",
                worker.log()
            );
            let log = worker.log.listening_address();
            log.ok_or_else(|| format!("no address in the log of the worker:\n{}", worker.log()))
        })
        .await;
        worker
    }

    /// Starts it and waits until it has ended by itself.
    pub async fn run_to_end(self) -> Exit {
        let mut worker = self.spawn();
        worker.expect_in_log("");
        worker.wait().await
    }

    fn spawn(self) -> Worker {
        let mut child = Command::new(worker_program())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the worker can be started");
        let log = ProcessLog::default();
        let readers = vec![
            log.follow(child.stdout.take().expect("the worker's output is a pipe")),
            log.follow(child.stderr.take().expect("the worker's errors are a pipe")),
        ];
        Worker {
            child,
            log,
            readers,
            expected: self.expected,
            address: String::new(),
        }
    }
}

impl Worker {
    /// Kills it with a signal that it cannot catch.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the worker can be killed");
    }

    /// Asks it to stop (SIGTERM) without waiting for it.
    pub fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Halts it where it stands, as a machine does that swaps or is suspended.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("the worker runs");
        send_signal(name, &id.to_string());
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) -> Exit {
        self.ask_to_stop();
        self.wait().await
    }

    /// Waits until it has ended, which must not take long.
    pub async fn wait(&mut self) -> Exit {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("the worker does not end:\n{}", self.log()))
            .expect("the worker can be waited for");
        for reader in self.readers.drain(..) {
            reader.await.expect("the log can be read to its end");
        }
        Exit {
            status,
            log: self.log(),
        }
    }

    /// Waits until `/readyz` says that it claims.
    pub async fn wait_until_ready(&self) {
        eventually(PATIENCE, async || match self.get("/readyz").await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("/readyz says {other:?}; log:\n{}", self.log())),
        })
        .await;
    }

    /// GETs a path of its own HTTP server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, get(&self.address, path))
            .await
            .map_err(std::io::Error::from)?
    }

    /// Where its HTTP server listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets its log hold warnings and errors with `text`.
    pub fn expect_in_log(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// All that it has logged until now.
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            // Shown by the test runner with the failed test's output.
            eprintln!("log of the worker at {}:\n{}", self.address, self.log());
        } else {
            let complaints = self.log.complaints(&self.expected);
            assert!(
                complaints.is_empty(),
                "the worker complains: {complaints:#?}"
            );
        }
    }
}
