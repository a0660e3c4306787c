//! The worker's own pages.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::{POLL_INTERVAL, Worker};

/// Far longer than a worker needs to connect.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Status and body of a page.
async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Waits until the worker is connected to the database and listens.
///
/// # Errors
/// When it ends, or is not ready in time.
pub(super) async fn wait_until_ready(worker: &mut Worker, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        // Until it listens, connections are refused.
        if matches!(get(address, "/readyz").await, Ok((200, _))) {
            return Ok(());
        }
        worker.ensure_running()?;
        ensure!(Instant::now() < deadline, "the worker is not ready");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How many webhooks the worker has answered with 202.
///
/// # Errors
/// When it cannot be asked.
pub(super) async fn accepted(address: SocketAddr) -> Result<u64> {
    let (status, page) = get(address, "/metrics").await.context("read /metrics")?;
    ensure!(status == 200, "/metrics answers {status}");
    count_accepted(&page)
}

/// None yet: no line.
fn count_accepted(page: &str) -> Result<u64> {
    let prefix = r#"actionflow_webhook_requests_total{status="202"} "#;
    let count = page.lines().find_map(|line| line.strip_prefix(prefix));
    Ok(count.map_or(Ok(0), str::parse)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_webhooks_are_found_among_the_metrics() {
        let page = "# TYPE actionflow_webhook_requests counter\n\
                    actionflow_webhook_requests_total{status=\"401\"} 2\n\
                    actionflow_webhook_requests_total{status=\"202\"} 17\n# EOF\n";
        assert_eq!(count_accepted(page).unwrap(), 17);
        assert_eq!(count_accepted("# EOF\n").unwrap(), 0);
    }
}
