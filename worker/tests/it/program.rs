//! The program as a process: exit codes, signals, and what it serves while the database cannot be reached.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

fn worker(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actionflow-worker"));
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name == "DATABASE_URL" || name.starts_with("ACTIONFLOW_"))
    {
        command.env_remove(name);
    }
    command
        .args(flags)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn find_line(lines: &mut Lines<BufReader<ChildStderr>>, text: &str) -> String {
    let searching = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the log ended without {text:?}");
    };
    timeout(LIMIT, searching)
        .await
        .expect("the line is written")
}

async fn exit_code(child: &mut Child) -> Option<i32> {
    timeout(LIMIT, child.wait())
        .await
        .expect("the worker ends")
        .unwrap()
        .code()
}

#[tokio::test]
async fn bad_settings_end_with_2_and_all_of_them_are_named() {
    let output = worker(&["--concurrency=many", "--listen=nowhere"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for flag in ["--database-url", "--concurrency", "--listen"] {
        assert!(text.contains(flag), "{text}");
    }
}

#[tokio::test]
async fn an_address_in_use_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let output = worker(&["--database-url=postgres://localhost:1/x", &listen])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn without_a_database_it_lives_is_not_ready_and_ends_with_0_on_a_signal() {
    // A port that was free a moment ago: connections to it are refused.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let database = format!("--database-url=postgres://worker:hidden@{closed}/shop");
    let mut child = worker(&[&database, "--listen=127.0.0.1:0"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let started = find_line(&mut lines, "listens on ").await;
    let address = started
        .split("listens on ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();

    let failed = find_line(
        &mut lines,
        "failed to claim deliveries: connect to the database",
    )
    .await;
    assert!(!failed.contains("hidden"), "{failed}");
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = get(address, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("the database is unreachable"),
        "{ready}"
    );
    let webhook = get(
        address,
        "/v1/webhooks/afwh_hiddenttttttttttttttttttttttttttttttttttttt",
    )
    .await;
    assert!(
        webhook.starts_with("HTTP/1.1 503") && webhook.contains("retry-after: 5"),
        "{webhook}"
    );
    let failed = find_line(
        &mut lines,
        "failed to receive a webhook: connect to the database",
    )
    .await;
    assert!(!failed.contains("hidden"), "{failed}");
    let metrics = get(address, "/metrics").await;
    assert!(
        metrics.contains(r#"actionflow_worker_info{version="0.1.0"} 1"#),
        "{metrics}"
    );

    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert_eq!(exit_code(&mut child).await, Some(0));
}
