//! `cargo dev faults bodies`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use reqwest::{Body, Client};

use super::harness::Harness;
use super::memory;

const MIB: usize = 1024 * 1024;
/// The most a body may cost, in MiB: so many times its size, and so much beside.
const TIMES: f64 = 20.0;
const BESIDE: f64 = 16.0;
/// The most a batch may cost, in MiB.
const BATCH: f64 = 200.0;

const LEADS: &str = "leads";
const BATCHES: &str = "leads/batch";
const IMPORT: &str = "leads/import";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Build the programs without optimizations, which is sooner done but not what is deployed.
    #[arg(long)]
    debug: bool,
    /// Another crm-api to measure, such as one of an earlier version; nothing is required of it.
    #[arg(long, value_name = "PROGRAM")]
    api: Option<PathBuf>,
}

/// A body that costs more than it weighs.
struct Hostile {
    name: &'static str,
    path: &'static str,
    body: Vec<u8>,
    /// Sent in pieces of one byte.
    drips: bool,
}

/// Sends hostile bodies to crm-api, each to a new process; returns those that cost too much.
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
        let answer = send(&harness, path, body, drips).await;
        let took = began.elapsed();
        let cost = memory::peak(pid).map_or(f64::INFINITY, |peak| peak - before);
        let bound = match path {
            BATCHES => BATCH,
            // An upload is as long as it likes.
            IMPORT => BESIDE,
            _ => TIMES * size + BESIDE,
        };
        println!("{name}: {size:.2} MiB cost {cost:.1} MiB, {:.2} of the bound; {answer} in {took:.2?}", cost / bound);
        if cost > bound && api.is_none() {
            broken.push(format!("{name} cost {cost:.1} MiB of at most {bound:.1}"));
        }
    }
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// Sends a body; returns the status, or that there was no answer.
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
        Ok(answer) => answer.status().as_u16().to_string(),
        Err(_) => "no answer".to_owned(),
    }
}

fn corpus() -> Vec<Hostile> {
    let long = "k".repeat(30_000);
    let twice = |bytes: usize| format!("{{\"{long}\":{{{}\"x\":0}}}}", "\"x\":0,".repeat(bytes / 6));
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
        json("a key given twice under a long one, 136 KiB", twice(106 * 1024)),
        json("a key given twice under a long one, 1 MiB", twice(1_000_000)),
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
        full("a batch of keys given twice", &|n| lead(n, &vec!["\"x\":0"; 2_600].join(","))),
        form("a form without a boundary", "x".repeat(200_000_000)),
        form("the name of a file without end", format!("{head}{}", "x".repeat(200_000_000))),
        form("a head of a part without end", format!("--b\r\n{}", "A: b\r\n".repeat(30_000_000))),
        form("a form that does not end", format!("--b--{}", "x".repeat(200_000_000))),
    ]
}
