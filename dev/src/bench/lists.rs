//! `cargo dev bench lists`

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use rand::seq::IndexedRandom;
use reqwest::Client;
use serde_json::json;

use super::export::fill;
use super::figures::{Bound, Figures, quantile};
use super::harness::{Api, Harness};

/// The most time that a page may take in 95 % of the requests if an index serves it, and the longest
/// time of any other page, in milliseconds.
const SERVED_P95: f64 = 10.0;
const OTHER_LONGEST: f64 = 1_500.0;
/// Filters and orders that an index serves.
const SERVED: [&str; 7] =
    ["", "sort=created_at", "sort=email", "sort=-email", "status=qualified", "status=new,contacted", "q=ada"];
/// Filters and orders without an index.
const OTHER: [&str; 8] = [
    "sort=name",
    "sort=-score",
    "sort=status",
    "sort=-last_contact",
    "custom.tier=7",
    "name=nobody",
    "company[ne]=null&score[gte]=99",
    "created_at[gte]=2030-01-01",
];
/// The records of a page.
const PAGE: usize = 50;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: usize,
    /// How often each page that an index serves is requested, at random positions.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    requests: usize,
    /// How often each other page is requested.
    #[arg(long, value_name = "N", default_value_t = 5)]
    others: usize,
}

/// Requests pages of a large list, one after another.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { rows, requests, others } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "rows": rows, "page": PAGE });
    let mut figures = Figures::new("lists", settings);
    let api = harness.api().await?;
    fill(harness, &api, rows).await?;
    // Values that few leads have, as in a workspace that has been used for a while.
    let varied = "UPDATE leads SET score = (random() * 100)::int, status = (ARRAY['new', 'contacted', 'qualified', 'lost'])[1 + random() * 3],
            custom_fields = jsonb_build_object('tier', (random() * 1000)::int),
            last_contact = CASE WHEN random() < 0.5 THEN now() - random() * interval '300 days' END";
    harness.prepare(varied).await?;
    sqlx::query("VACUUM ANALYZE leads").execute(&harness.pool).await?;
    let client = Client::new();
    for query in SERVED {
        let cursors = cursors(&client, &api, query).await?;
        let times = times(&client, &api, query, &cursors, requests).await?;
        figures.sample(json!({ "of": query, "p50_ms": quantile(&times, 0.5), "p99_ms": quantile(&times, 0.99) }));
        figures.alone(&format!("?{query}, p95"), quantile(&times, 0.95), "ms", Bound::AtMost(SERVED_P95));
    }
    for query in OTHER {
        let times = times(&client, &api, query, &[None], others).await?;
        figures.sample(json!({ "of": query, "times_ms": times }));
        figures.alone(&format!("?{query}, longest"), quantile(&times, 1.0), "ms", Bound::AtMost(OTHER_LONGEST));
    }
    api.program.stop().await?;
    Ok(figures.table())
}

/// The starts of pages, from the whole length of the list or its first part.
async fn cursors(client: &Client, api: &Api, query: &str) -> Result<Vec<Option<String>>> {
    const PAGES: usize = 500;
    let mut cursors = vec![None];
    while cursors.len() < PAGES {
        let last = cursors.last().cloned().flatten();
        let Some(next) = page(client, api, query, last.as_deref(), 1_000).await? else { break };
        cursors.push(Some(next));
    }
    Ok(cursors)
}

/// The time of each request in milliseconds.
async fn times(
    client: &Client,
    api: &Api,
    query: &str,
    cursors: &[Option<String>],
    requests: usize,
) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let cursor = cursors.choose(&mut rand::rng()).context("a list has a start")?;
        let begun = Instant::now();
        page(client, api, query, cursor.as_deref(), PAGE).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Requests a page; returns the cursor of the next one.
async fn page(client: &Client, api: &Api, query: &str, cursor: Option<&str>, limit: usize) -> Result<Option<String>> {
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    let url = format!("{}/leads?{query}&limit={limit}{cursor}", api.url);
    let response = client.get(url).bearer_auth(&api.key).send().await?.error_for_status()?;
    let next = response.headers().get("x-next-cursor").map(|next| next.to_str().map(str::to_owned)).transpose()?;
    response.bytes().await?;
    Ok(next)
}
