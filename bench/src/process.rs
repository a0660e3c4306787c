//! A contestant's worker process.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

/// Longer than any contestant's own grace period for requests in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Longer than the slowest contestant needs for the memory scenario's backlog.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Short against a run of seconds, and cheap where it reads a counter in this process.
pub const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The unit of time in `/proc` is the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running worker; dropping it kills the process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    program: String,
}

impl Worker {
    /// Starts `command`, with its output appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let program = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Self { child, program })
    }

    /// # Errors
    /// When the process has ended: waiting for its work would last forever.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended early: {status}; see its log", self.program),
            None => Ok(()),
        }
    }

    /// Waits until `count` has reached `wanted`; `what` completes "3 of 5 ...".
    ///
    /// # Errors
    /// When the process ends or ten minutes pass before that.
    pub async fn wait_for(
        &mut self,
        what: &str,
        wanted: u64,
        count: impl Fn() -> u64,
    ) -> Result<()> {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let reached = count();
            if reached >= wanted {
                return Ok(());
            }
            self.ensure_running()?;
            ensure!(
                Instant::now() < deadline,
                "only {reached} of {wanted} {what}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Highest resident memory so far, in MiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn peak_memory_mib(&self) -> Result<f64> {
        let pid = self.child.id().context("the worker has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .context("no VmHWM in the process status")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time used so far, in seconds.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let pid = self.child.id().context("the worker has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field, the program's name in brackets, may hold spaces; user and system time are fields 14 and 15.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("no name in the process stat")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<f64> { Ok(fields.next().context("a short stat")?.parse()?) };
        Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
    }

    /// Asks the process to end, and kills it if it does not.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill")
                .arg(pid.to_string())
                .status()
                .await
                .context("run kill")?;
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await?;
        }
        Ok(())
    }
    /// Ends the process at once, whatever it has under way.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill the worker")
    }
}
