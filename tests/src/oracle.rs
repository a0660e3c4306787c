//! Libraries in other languages that sign webhooks and verify them.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::paths::repository;

/// Where libraries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    /// Those of `oracles/sign.py`.
    Python,
    /// Those of `oracles/sign.mjs`.
    Node,
}

impl Oracle {
    /// What the libraries make of some jobs, in their order.
    ///
    /// # Panics
    /// When one of them fails.
    pub async fn results(self, jobs: &[Value]) -> Vec<Value> {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{self:?} cannot be started: {error}"));
        let mut input = child.stdin.take().expect("its input is a pipe");
        let jobs = Value::from(jobs.to_vec()).to_string();
        // It reads all before it writes; when it ends early its error says more than a broken pipe.
        let _ = input.write_all(jobs.as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("not results: {said}"))
    }

    fn command(self) -> Command {
        match self {
            Self::Python => {
                let mut command = Command::new(in_setup("venv/bin/python"));
                command.arg("-c").arg(include_str!("../oracles/sign.py"));
                command
            }
            Self::Node => {
                let own = in_setup("venv/bin").join("node");
                let mut command = Command::new(if own.exists() { own } else { "node".into() });
                command
                    .args(["--input-type=module", "--eval"])
                    .arg(include_str!("../oracles/sign.mjs"))
                    // Packages are looked for from there.
                    .current_dir(in_setup("oracles"));
                command
            }
        }
    }
}

fn in_setup(path: &str) -> PathBuf {
    let path = repository().join(".dev").join(path);
    assert!(
        path.exists(),
        "{} is missing: run scripts/setup",
        path.display()
    );
    path
}
