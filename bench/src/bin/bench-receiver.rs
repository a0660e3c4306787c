//! The receiver alone, for measuring by hand: `GET /stats` shows what has arrived, any POST is counted.

use std::net::SocketAddr;

use actionflow_bench::receiver::Receiver;
use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let receiver = Receiver::start(Arguments::parse().listen)?;
    eprintln!("listening on {}", receiver.url());
    tokio::signal::ctrl_c().await?;
    eprintln!("{} requests", receiver.ledger().arrivals);
    Ok(())
}
