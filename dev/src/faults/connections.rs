//! `cargo dev faults connections`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use reqwest::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::harness::Harness;
use super::memory;

/// The memory that a connection may need after it has sent a part of its headers.
const KIB_EACH: f64 = 40.0;
/// The timeout of a health check.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most connections from one address.
const PER_ADDRESS: usize = 1000;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The connection limit of the program.
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    limit: usize,
    /// The number of connections to open beyond the limit.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    beyond: usize,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// Another crm-api to measure, such as an earlier version; its results are not checked.
    #[arg(long, value_name = "PROGRAM")]
    api: Option<PathBuf>,
}

/// Opens more connections than the program allows, each with a part of its headers; returns the broken
/// guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { limit, beyond, debug, api } = arguments;
    let mut harness = Harness::start(0, !debug).await?;
    let most = limit.to_string();
    let long_timeout = ("CRM_API__HEADER_TIMEOUT_S", "600");
    let settings = [long_timeout, ("CRM_API__MAX_CONNECTIONS", most.as_str())];
    harness.replace_api(api.as_deref(), if api.is_some() { &settings[..1] } else { &settings }).await?;
    // After starting the program, which would inherit the limit.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)?;
    let pid = harness.api_id()?;
    check(&harness, "/healthz").await;
    let before = memory::resident(pid)?;

    let address: SocketAddr = harness.api_url().trim_start_matches("http://").parse()?;
    let began = Instant::now();
    let mut open = Vec::new();
    for number in 0..limit + beyond {
        match connect(address, number).await {
            Ok(stream) => open.push(stream),
            Err(error) => {
                println!("connection {number} was not opened: {error}");
                break;
            }
        }
    }
    println!("{} connections were opened in {:.1} s", open.len(), began.elapsed().as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    let grown = memory::resident(pid)? - before;
    let each = grown * 1024.0 / open.len().min(limit) as f64;
    println!("crm-api grew by {grown:.0} MiB, {each:.1} KiB per connection; this program may open {descriptors} files");

    let (healthz, readyz) = (check(&harness, "/healthz").await, check(&harness, "/readyz").await);
    let lead = check(&harness, "/dev/crm/leads?limit=1").await;
    println!("responses beyond the limit: /healthz {healthz:?}, /readyz {readyz:?}, a list {lead:?}");
    let mut broken = Vec::new();
    if api.is_none() {
        if (healthz, readyz, lead) != (Some(200), Some(200), Some(503)) {
            broken.push("beyond the limit, health checks must be answered and other requests refused".to_owned());
        }
        if each > KIB_EACH {
            broken.push(format!("a connection needs {each:.1} KiB"));
        }
    }
    drop(open);
    let ended = Instant::now();
    let mut lead = None;
    while lead != Some(200) && ended.elapsed() < Duration::from_secs(30) {
        lead = check(&harness, "/dev/crm/leads?limit=1").await;
    }
    println!("a list {:.1} s after the connections were closed: {lead:?}", ended.elapsed().as_secs_f64());
    if lead != Some(200) {
        broken.push("requests are not answered after the connections were closed".to_owned());
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Opens a connection from one of many local addresses, and sends a part of the headers.
async fn connect(address: SocketAddr, number: usize) -> Result<TcpStream> {
    let host = 2 + u8::try_from(number / PER_ADDRESS)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)))?;
    let mut stream = timeout(Duration::from_secs(5), socket.connect(address)).await??;
    stream.write_all(b"GET /dev/crm/leads HTTP/1.1\r\nHost: te").await?;
    Ok(stream)
}

/// The status of a response over a new connection, if it arrives in time.
async fn check(harness: &Harness, path: &str) -> Option<u16> {
    let request = Client::new().get(format!("{}{path}", harness.api_url())).bearer_auth(harness.key());
    let response = request.timeout(PATIENCE).send().await;
    response.ok().map(|response| response.status().as_u16())
}
