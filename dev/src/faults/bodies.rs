//! `cargo dev faults bodies`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use reqwest::{Body, Client};

use super::harness::Harness;
use super::memory;

const MIB: usize = 1024 * 1024;
/// The memory that a body may need, in MiB: `TIMES` its size plus `BASE`.
const TIMES: f64 = 20.0;
const BASE: f64 = 16.0;
/// The memory that a batch may need, in MiB.
const BATCH: f64 = 200.0;

const LEADS: &str = "leads";
const BATCHES: &str = "leads/batch";
const IMPORT: &str = "leads/import";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// Another crm-api to measure, such as an earlier version; its results are not checked.
    #[arg(long, value_name = "PROGRAM")]
    api: Option<PathBuf>,
}

/// A body that is made to need much memory.
struct Hostile {
    name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    /// Whether the body is sent byte by byte.
    drips: bool,
}

/// Sends hostile bodies to crm-api, each to a new process; returns those that need too much memory.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { debug, api } = arguments;
    let mut harness = Harness::start(0, !debug).await?;
    let mut broken = Vec::new();
    for hostile in corpus() {
        harness.replace_api(api.as_deref(), &[]).await?;
        let pid = harness.api_id()?;
        send(&harness, LEADS, b"{}".to_vec(), false).await;
        let before = memory::resident(pid)?;
        memory::forget_peak(pid)?;
        let Hostile { name, path, body, drips } = hostile;
        let (size, began) = (body.len() as f64 / MIB as f64, Instant::now());
        let result = send(&harness, path, body, drips).await;
        let took = began.elapsed();
        let used = memory::peak(pid).map_or(f64::INFINITY, |peak| peak - before);
        let limit = match path {
            BATCHES => BATCH,
            // The memory of an upload must not depend on its size.
            IMPORT => BASE,
            _ => TIMES * size + BASE,
        };
        println!("{name}: {size:.2} MiB need {used:.1} MiB, {:.2} of the limit; {result} in {took:.2?}", used / limit);
        if used > limit && api.is_none() {
            broken.push(format!("{name}: needs {used:.1} MiB, more than {limit:.1} MiB"));
        }
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Sends a body; returns the status, or that there was no response.
async fn send(harness: &Harness, path: &str, body: Vec<u8>, drips: bool) -> String {
    let kind = if path == IMPORT { "multipart/form-data; boundary=b" } else { "application/json" };
    let body = match drips {
        false => Body::from(body),
        true => Body::wrap_stream(futures_util::stream::iter(
            body.into_iter().map(|byte| Ok::<_, std::io::Error>(vec![byte])),
        )),
    };
    let request = Client::new().post(format!("{}/dev/crm/{path}", harness.api_url())).bearer_auth(harness.key());
    match request.header("content-type", kind).body(body).send().await {
        Ok(response) => response.status().as_u16().to_string(),
        Err(_) => "no response".to_owned(),
    }
}

fn corpus() -> Vec<Hostile> {
    let long = "k".repeat(30_000);
    let duplicates = |bytes: usize| format!("{{\"{long}\":{{{}\"x\":0}}}}", "\"x\":0,".repeat(bytes / 6));
    let many = |item: &str, bytes: usize| format!("{{\"a\":[{}0]}}", item.repeat(bytes / item.len()));
    let named = |bytes: usize| -> String {
        let fields: String = (0..bytes / 10).map(|n| format!("\"{n:05}\":0,")).collect();
        format!("{{{fields}\"name\":\"\"}}")
    };
    let json = |name, body: String| Hostile { name, path: LEADS, body: body.into_bytes(), drips: false };
    let batch = |name, item: &str| {
        let body = format!("{{\"items\":[{}{item}]}}", format!("{item},").repeat(16_000_000 / (item.len() + 1)));
        Hostile { name, path: BATCHES, body: body.into_bytes(), drips: false }
    };
    let full = |name, item: &dyn Fn(usize) -> String| {
        let items: Vec<String> = (0..1_000).map(item).collect();
        Hostile { name, path: BATCHES, body: format!("{{\"items\":[{}]}}", items.join(",")).into_bytes(), drips: false }
    };
    let lead = |n: usize, fields: &str| format!("{{\"name\":\"Ada\",\"email\":\"{n}@example.com\",{fields}}}");
    let numbers = format!("\"custom_fields\":{{\"a\":[{}0]}}", "0,".repeat(7_900));
    let objects = format!("\"custom_fields\":{{\"a\":[{}0]}}", "{\"\":0},".repeat(1_900));
    let form = |name, body: String| Hostile { name, path: IMPORT, body: body.into_bytes(), drips: false };
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
    vec![
        json("duplicate keys under a long key, 136 KiB", duplicates(106 * 1024)),
        json("duplicate keys under a long key, 1 MiB", duplicates(1_000_000)),
        json("numbers", many("0,", 1_000_000)),
        json("empty arrays", many("[],", 1_000_000)),
        json("small objects", many("{\"\":0},", 1_000_000)),
        json("small arrays", many("[0],", 1_000_000)),
        json("unknown fields", named(1_000_000)),
        json("deep nesting", format!("{{\"a\":{}", "[".repeat(1_000_000))),
        json("a number of a million digits", format!("{{\"score\":{}}}", "9".repeat(1_000_000))),
        json("a long text", format!("{{\"name\":\"{}\"}}", "\\u00e4".repeat(160_000))),
        Hostile { drips: true, ..json("numbers, byte by byte", many("0,", 1_000_000)) },
        batch("a batch of empty arrays", "[]"),
        batch("a batch of empty objects", "{}"),
        batch("a batch of numbers", "0"),
        full("a batch with custom fields of numbers", &|n| lead(n, &numbers)),
        full("a batch with custom fields of objects", &|n| lead(n, &objects)),
        full("a batch of unknown fields", &|n| {
            lead(n, &(0..1_500).map(|m| format!("\"{m:05}\":0")).collect::<Vec<_>>().join(","))
        }),
        full("a batch of duplicate keys", &|n| lead(n, &vec!["\"x\":0"; 2_600].join(","))),
        form("a form without a boundary", "x".repeat(200_000_000)),
        form("an endless file name", format!("{head}{}", "x".repeat(200_000_000))),
        form("endless headers of a part", format!("--b\r\n{}", "A: b\r\n".repeat(30_000_000))),
        form("an endless form", format!("--b--{}", "x".repeat(200_000_000))),
    ]
}
