//! `cargo dev faults streams`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::harness::Harness;
use super::memory;

/// The memory that the program may hold for a client that does not read: a page, the next page, and the
/// serialized text of both.
const MIB_EACH: f64 = 4.0;
/// The bytes of a record's custom fields, as an import may store them.
const RECORD: usize = 63 * 1024;
/// The timeout after which a client that does not read is disconnected.
const WRITE_TIMEOUT_S: u64 = 10;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of readers of each kind.
    #[arg(long, value_name = "N", default_value_t = 20)]
    readers: usize,
    /// The number of records of 64 KiB.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    records: usize,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// Another crm-api to measure, such as an earlier version; its results are not checked.
    #[arg(long, value_name = "PROGRAM")]
    api: Option<PathBuf>,
}

/// Opens lists and exports of large records without reading them; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { readers, records, debug, api } = arguments;
    let mut harness = Harness::start(0, !debug).await?;
    fill(&harness, records).await?;
    let timeout_s = WRITE_TIMEOUT_S.to_string();
    let settings: &[(&str, &str)] = if api.is_some() { &[] } else { &[("CRM_API__WRITE_TIMEOUT_S", &timeout_s)] };
    let mut broken = Vec::new();
    for path in ["leads", "leads?limit=1000", "leads/export"] {
        // A new process each time: an allocator does not return all memory.
        harness.replace_api(api.as_deref(), settings).await?;
        let pid = harness.api_id()?;
        read_one(&harness).await?;
        let before = memory::resident(pid)?;
        memory::forget_peak(pid)?;
        let mut open = Vec::new();
        for _ in 0..readers {
            open.push(ask(&harness, path).await?);
        }
        // Waits until the program has stopped reading for them.
        sleep(Duration::from_secs(WRITE_TIMEOUT_S / 2)).await;
        let (held, peak) = (memory::resident(pid)? - before, memory::peak(pid)? - before);
        println!("{path}, {readers} clients that do not read: {held:.0} MiB held, {peak:.0} MiB at most");
        if api.is_some() {
            continue;
        }
        if held > readers as f64 * MIB_EACH {
            broken.push(format!("{path}: {held:.0} MiB are held for {readers} clients that do not read"));
        }
        let began = Instant::now();
        for stream in &mut open {
            if timeout(Duration::from_secs(3 * WRITE_TIMEOUT_S), until_reset(stream)).await.is_err() {
                broken.push(format!("{path}: a client that does not read is still connected"));
            }
        }
        println!("  all of them were disconnected {:.1} s later", began.elapsed().as_secs_f64());
    }
    if api.is_none() {
        broken.extend(check_whole(&harness, records).await?);
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

async fn fill(harness: &Harness, records: usize) -> Result<()> {
    let statement =
        "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, custom_fields, search_vector,
                created_at, updated_at)
        SELECT workspaces.id, gen_random_uuid(), 'Ann', n || '@example.com', n || '@example.com', 'other', 'new', 0,
               jsonb_build_object('text', (SELECT string_agg(md5(n || '-' || m), '') FROM generate_series(1, $2) m)),
               '', now() - n * interval '1 second', now()
        FROM workspaces, generate_series(1, $1) n";
    sqlx::query(statement).bind(records as i64).bind((RECORD / 32) as i64).execute(&harness.pool).await?;
    sqlx::query("ANALYZE leads").execute(&harness.pool).await?;
    Ok(())
}

/// Reads one record, so that the process opens its connections and allocates what it needs on first use.
async fn read_one(harness: &Harness) -> Result<()> {
    let url = format!("{}/dev/crm/leads?limit=1", harness.api_url());
    reqwest::Client::new().get(url).bearer_auth(harness.key()).send().await?.error_for_status()?.text().await?;
    Ok(())
}

/// Checks that lists are complete and valid.
async fn check_whole(harness: &Harness, records: usize) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in ["leads", "leads?limit=1000"] {
        let url = format!("{}/dev/crm/{path}", harness.api_url());
        let response = reqwest::Client::new().get(url).bearer_auth(harness.key()).send().await?.error_for_status()?;
        let leads: Vec<serde_json::Value> = serde_json::from_str(&response.text().await?)?;
        if leads.len() != records.min(1000) && path.contains("limit") || leads.len() != records && path == "leads" {
            broken.push(format!("{path} has {} records", leads.len()));
        }
    }
    Ok(broken)
}

/// Requests a list, and reads only the status.
async fn ask(harness: &Harness, path: &str) -> Result<TcpStream> {
    let address = harness.api_url().trim_start_matches("http://");
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let mut stream = socket.connect(address.parse()?).await?;
    let head = format!("GET /dev/crm/{path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n", harness.key());
    stream.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    ensure!(&status == b"HTTP/1.1 200", "{path} returned {}", String::from_utf8_lossy(&status));
    Ok(stream)
}

async fn until_reset(stream: &mut TcpStream) {
    while stream.write_all(b"G").await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
}
