//! `cargo dev faults abandoned`

mod attack;
mod tally;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::try_join_all;
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::Harness;
use attack::{Attack, Manner};
use tally::{Tally, check_writes};

/// The number of customers of the other tenant.
const CUSTOMERS: usize = 200;
/// The allowed slowdown of the other tenant while callers disconnect.
const SLOWER: f64 = 2.0;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of requests of each tenant in each half.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    requests: usize,
    /// The number of concurrent requests of each tenant.
    #[arg(long, value_name = "N", default_value_t = 8)]
    clients: usize,
    /// The crm-api to attack, for a comparison; the default is that of this workspace.
    #[arg(long, value_name = "FILE")]
    api: Option<PathBuf>,
    /// Build the programs without optimizations: faster to build, but not what is deployed.
    #[arg(long)]
    debug: bool,
}

/// Sends requests of one tenant and disconnects before the responses, while another tenant reads and writes
/// its own records; returns the broken guarantees.
pub async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { requests, clients, api, debug } = arguments;
    let harness = match &api {
        Some(program) => Harness::of_api(program.clone()).await?,
        None => Harness::start(0, !debug).await?,
    };
    let attack = Attack::prepare(&harness).await?;
    let other = Other::prepare(&harness).await?;
    let mut broken = Vec::new();
    let mut p99 = Vec::new();
    for manner in [Manner::ReadToTheEnd, Manner::Leave] {
        let began = Instant::now();
        let half = Half { requests, is_over: [AtomicBool::new(false), AtomicBool::new(false)] };
        let (sent, tally) = tokio::try_join!(half.attack(&attack, manner, clients), half.read(&other, clients))?;
        println!("{manner:?}: {sent} requests of the attacker in {:.0?}, {tally}", began.elapsed());
        broken.extend(tally.wrong());
        p99.push(tally.p99());
    }
    if p99[1] > p99[0].mul_f64(SLOWER) {
        broken.push(format!(
            "the other tenant's p99 is {:.1?} while callers disconnect, and {:.1?} while callers read",
            p99[1], p99[0]
        ));
    }
    harness.wait_until_quiet().await?;
    broken.extend(check_writes(&harness, &attack).await?);
    harness.end(!broken.is_empty()).await?;
    Ok(broken)
}

/// One half of the run: each tenant sends at least this many requests, and continues until the other has, too.
struct Half {
    requests: usize,
    is_over: [AtomicBool; 2],
}

impl Half {
    async fn attack(&self, attack: &Attack, manner: Manner, clients: usize) -> Result<usize> {
        let next = AtomicUsize::new(0);
        let client = async || {
            while let Some(number) = self.next(&next, 0) {
                attack.send(number, manner).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..clients).map(|_| client())).await?;
        Ok(next.load(Relaxed) - clients)
    }

    async fn read(&self, other: &Other, clients: usize) -> Result<Tally> {
        let next = AtomicUsize::new(0);
        let client = async || {
            let mut tally = Tally::default();
            while let Some(number) = self.next(&next, 1) {
                other.send(number, &mut tally).await?;
            }
            anyhow::Ok(tally)
        };
        Ok(try_join_all((0..clients).map(|_| client())).await?.into_iter().sum())
    }

    /// The number of the next request; `None` when both tenants have sent enough.
    fn next(&self, next: &AtomicUsize, mine: usize) -> Option<usize> {
        let number = next.fetch_add(1, Relaxed);
        if number >= self.requests {
            self.is_over[mine].store(true, Relaxed);
        }
        let continues = self.is_over.iter().any(|over| !over.load(Relaxed));
        continues.then_some(number)
    }
}

/// The well-behaved tenant.
struct Other {
    client: Client,
    url: String,
    key: String,
    customers: Vec<Value>,
}

impl Other {
    async fn prepare(harness: &Harness) -> Result<Self> {
        let (_, key) = harness.new_workspace("other").await?;
        let mut other =
            Self { client: Client::new(), url: format!("{}/dev/crm", harness.api_url()), key, customers: Vec::new() };
        for number in 0..CUSTOMERS {
            let body = json!({ "name": format!("Customer {number}"), "email": format!("c{number}@example.com") });
            let request = other.client.post(format!("{}/customers", other.url)).bearer_auth(&other.key).json(&body);
            let customer = request.send().await?.error_for_status()?.json().await?;
            other.customers.push(customer);
        }
        Ok(other)
    }

    /// Reads a customer, or every tenth time creates an order of the customer.
    async fn send(&self, number: usize, tally: &mut Tally) -> Result<()> {
        let customer = &self.customers[number % CUSTOMERS];
        let id = customer["id"].as_str().context("a customer has no id")?;
        let writes = number.is_multiple_of(10);
        let request = if writes {
            let body = json!({ "customer_id": id, "product_id": Uuid::nil(), "quantity": number + 1 });
            self.client.post(format!("{}/orders", self.url)).json(&body)
        } else {
            self.client.get(format!("{}/customers/{id}", self.url))
        };
        let began = Instant::now();
        let response = request.bearer_auth(&self.key).send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        let is_right = match serde_json::from_str::<Value>(&body) {
            Ok(order) if writes => status == 201 && order["customer_id"] == customer["id"],
            Ok(read) => status == 200 && read == *customer,
            Err(_) => false,
        };
        tally.add(began.elapsed(), is_right, || format!("{status} {body}"));
        Ok(())
    }
}
