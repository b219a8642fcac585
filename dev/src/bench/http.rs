//! `cargo dev bench http`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use serde_json::{Value, json};
use shared::crm::leads::Lead;
use shared::query::List;
use shared::records::{self, Fields, Place, Record};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::export::fill;
use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness};
use super::load::{find_wrk, wrk};

/// The least share of the speed of the bare handler, for a record and for a list.
const SPEEDS: [f64; 2] = [0.95, 0.90];
/// The records of a page.
const PAGE: u32 = 50;
/// The size of both pools: the product's default.
const POOL: u32 = 20;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of concurrent connections.
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: usize,
    /// The number of leads.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: usize,
    /// How often each of the two is measured, alternately.
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// The duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u64,
}

/// The arguments of the hidden server.
#[derive(Debug, Args)]
pub struct Bare {
    workspace: Uuid,
}

/// Reads one lead, and a page of leads, repeatedly through the API and through bare handlers of the same
/// rows.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    find_wrk().await?;
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { connections, rows, rounds, seconds } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "rows": rows, "connections": connections,
        "pool": POOL, "rounds": rounds, "round_s": seconds });
    let mut figures = Figures::new("http", settings);
    let api = harness.api().await?;
    fill(harness, &api, rows).await?;
    let lead = create_lead(&api).await?;
    let (bare, address) = harness.this_program(&["bench", "bare-server", &api.workspace.to_string()]).await?;
    let bare_url = format!("http://{address}");
    let paths = [("GET of a lead", format!("/leads/{lead}")), ("list of 50", format!("/leads?limit={PAGE}"))];
    wait_until_serving(&format!("{bare_url}{}", paths[0].1)).await?;

    for ((name, path), at_least) in paths.iter().zip(SPEEDS) {
        let urls = [format!("{}{path}", api.url), format!("{bare_url}{path}")];
        check_same(&urls, &api.key).await?;
        for url in &urls {
            wrk(url, &api.key, connections, Duration::from_secs(1)).await?;
        }
        let (mut speeds, mut p99) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for round in 0..rounds * 2 {
            // The order alternates from round to round.
            let which = usize::from(matches!(round % 4, 1 | 2));
            let load = wrk(&urls[which], &api.key, connections, Duration::from_secs(seconds)).await?;
            let by = ["crm-api", "bare"][which];
            figures.sample(json!({ "of": name, "by": by, "load": load.to_json() }));
            speeds[which].push(load.per_second);
            p99[which].push(load.p99_ms);
        }
        let (speeds, p99) = (speeds.map(|speeds| median(&speeds)), p99.map(|p99| median(&p99)));
        let bare_name = "bare axum + sqlx handler";
        figures.ratio(name, (speeds[0], speeds[1]), "requests/s", bare_name, Bound::AtLeast(at_least));
        figures.ratio(&format!("{name}, p99"), (p99[0], p99[1]), "ms", bare_name, Bound::None);
    }
    bare.stop().await?;
    api.program.stop().await?;
    Ok(figures.table())
}

/// Checks that both make the same JSON.
async fn check_same(urls: &[String; 2], key: &str) -> Result<()> {
    let client = reqwest::Client::new();
    let mut texts = Vec::new();
    for url in urls {
        texts.push(client.get(url).bearer_auth(key).send().await?.error_for_status()?.text().await?);
    }
    ensure!(texts[0] == texts[1], "the responses differ: {} and {}", texts[0], texts[1]);
    Ok(())
}

/// Creates a lead through the API; returns its id.
pub async fn create_lead(api: &Api) -> Result<String> {
    let body = json!({
        "name": "Ada Example", "email": "ada@example.com", "phone": "+49 30 1234567", "company": "Alder Labs",
        "notes": "Wants an offer for 40 seats, and a call.", "custom_fields": { "employees": "11-50" },
    });
    let request = reqwest::Client::new().post(format!("{}/leads", api.url)).bearer_auth(&api.key);
    let response = request.json(&body).send().await?.error_for_status()?;
    let lead: Value = serde_json::from_str(&response.text().await?)?;
    Ok(lead["id"].as_str().context("the lead has no id")?.to_owned())
}

async fn wait_until_serving(url: &str) -> Result<()> {
    let serving = async {
        while !reqwest::get(url).await.is_ok_and(|response| response.status().is_success()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), serving).await.context("the bare server did not start")
}

/// What the bare handlers share.
#[derive(Clone)]
struct Shared {
    pool: PgPool,
    workspace: Uuid,
    list: List,
}

/// The server that the API is compared with: the same statements and the same responses, and nothing else.
pub async fn serve_bare(Bare { workspace }: Bare) -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL must be set")?;
    let pool = PgPoolOptions::new().max_connections(POOL).test_before_acquire(false).connect_lazy(&url)?;
    let list = List::parse(&Lead::LIST, workspace, &[])?;
    let router = Router::new().route("/leads/{id}", get(read)).route("/leads", get(list_page));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("serving address={}", listener.local_addr()?);
    Ok(axum::serve(listener, router.with_state(Shared { pool, workspace, list })).await?)
}

async fn read(State(shared): State<Shared>, Path(id): Path<Uuid>) -> Result<Json<Lead>, StatusCode> {
    let mut connection = shared.pool.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let place = Place { parent: None, id };
    records::get(&mut connection, shared.workspace, place).await.map(Json).map_err(|_| StatusCode::NOT_FOUND)
}

async fn list_page(State(shared): State<Shared>) -> Result<Json<Vec<Lead>>, StatusCode> {
    let mut connection = shared.pool.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let mut page = shared.list.page(shared.workspace, Lead::columns(), PAGE);
    let leads = page.build_query_as().fetch_all(&mut *connection).await;
    leads.map(Json).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
