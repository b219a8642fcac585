//! `cargo dev bench records`

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use shared::crm::leads::Lead;
use shared::query::List;
use shared::records::{Fields, Record, schema};
use shared::values::search;
use tokio::process::Command;
use uuid::Uuid;

use super::export::fill;
use super::figures::{Bound, Figures, median};
use super::harness::{Api, Harness, succeed};
use super::load::{Request, find_wrk, wrk_requests};

/// The placeholder for the number of each record in a word.
const NUMBER: &str = "number";
/// The number of records that are read and updated repeatedly.
const CHOSEN: i64 = 2_000;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of existing leads.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: usize,
    /// The number of concurrent connections.
    #[arg(long, value_name = "N", default_value_t = 32)]
    connections: usize,
    /// How often each is measured, alternately.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// The duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u64,
}

/// An operation, over HTTP and as the same statements in pgbench.
struct Operation {
    name: &'static str,
    request: Request,
    script: String,
    bound: Bound,
}

/// Creates, updates and lists leads through the API, and with the same statements in pgbench.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    find_wrk().await?;
    Harness::with(async |harness| measure(harness, &arguments).await).await
}

async fn measure(harness: &Harness, arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { rows, connections, rounds, seconds } = arguments;
    let settings = json!({ "machine": harness.machine().await?, "rows": rows, "connections": connections,
        "rounds": rounds, "round_s": seconds });
    let mut figures = Figures::new("records", settings);
    let api = harness.api().await?;
    fill(harness, &api, rows).await?;
    let choose = format!(
        "CREATE TABLE chosen AS SELECT row_number() OVER () AS number, id FROM (SELECT id FROM leads ORDER BY id LIMIT {CHOSEN}) AS first;
         ALTER TABLE chosen ADD PRIMARY KEY (number)"
    );
    harness.prepare(&choose).await?;
    let chosen: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM chosen").fetch_all(&harness.pool).await?;
    let time = Duration::from_secs(seconds);
    for operation in operations(&api, &chosen)? {
        let script = harness.dir.join("script.sql");
        std::fs::write(&script, &operation.script)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let load = wrk_requests(&harness.dir, &api.key, connections, time, &operation.request).await?;
            let per_second = pgbench(harness, &script, connections, time).await?;
            figures.sample(
                json!({ "of": operation.name, "round": round, "load": load.to_json(), "pgbench_per_s": per_second }),
            );
            ours.push(load.per_second);
            theirs.push(per_second);
        }
        let speeds = (median(&ours), median(&theirs));
        figures.ratio(operation.name, speeds, "requests/s", "the same in pgbench", operation.bound);
    }
    api.program.stop().await?;
    Ok(figures.table())
}

fn operations(api: &Api, chosen: &[Uuid]) -> Result<[Operation; 3]> {
    let statements = Lead::statements();
    let workspace = format!("'{}'", api.workspace);
    // Ids that increase with time, like those of the program.
    let id = "(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7abc8'
        || lpad(to_hex((random() * 1e9)::bigint), 15, '0'))::uuid";
    // The same search vectors as the program's, since the size of the index depends on them.
    let words = |email: &str| {
        let texts = ["Ada Example", &format!("{email}@example.com"), "Alder Labs", "+49 30 1234567"];
        format!("('{}')", search::vector(api.workspace, texts).replace(NUMBER, "' || :n || '"))
    };
    let record = |id: &str, email: &str, notes: &str, words: &str| {
        let value = |column: &str| match column {
            "id" => id,
            "name" => "'Ada Example'",
            "email" => email,
            "phone" => "'+49 30 1234567'",
            "company" => "'Alder Labs'",
            "source" => "'website'",
            "status" => "'new'",
            "score" => "75",
            "notes" => notes,
            "custom_fields" => "'{}'",
            "created_at" | "updated_at" => "now()",
            _ => "NULL",
        };
        let values: Vec<String> = Lead::COLUMNS.iter().map(|column| value(column).to_owned()).collect();
        values.into_iter().chain([email, words].map(str::to_owned))
    };
    let chosen_id = "(SELECT id FROM chosen WHERE number = :number)";
    let created = record(id, "'b' || :n || '@example.com'", "'n'", &words(&format!("b{NUMBER}")));
    let lead: Lead = schema::example_record().context("the example of a lead is invalid")?;
    // A colon before a word is a variable of pgbench.
    let data = format!("'{}'", serde_json::to_string(&lead)?.replace("\":", "\": "));
    let event = ["'key'", id, id, "'request'", &data, "now()"].map(str::to_owned);
    let create = [workspace.clone()].into_iter().chain(created).chain(event);
    let history = [":version", id, "'key'", id, "'request'", "'{\"notes\": \"n\"}'", "'{\"notes\": \"m\"}'", "now()"];
    let update = [workspace.as_str()].into_iter().chain(history).map(str::to_owned);
    let update = update.chain(record("(:id)::uuid", ":email", "'n' || :n", &words("b"))).chain([data]);
    let list = List::parse(&Lead::LIST, api.workspace, &[("status".into(), "qualified".into())])?;
    let list = list.page(api.workspace, Lead::columns(), 51).sql().as_str().to_owned();
    let random = "\\set n random(1, 9000000000000000)\n";
    let ids: Vec<String> = chosen.iter().map(|id| format!("\"{id}\"")).collect();
    let body = r#"{"name":"Ada Example","email":"a%s@example.com","phone":"+49 30 1234567","company":"Alder Labs","source":"website","score":75,"notes":"n"}"#;
    Ok([
        Operation {
            name: "create",
            request: Request { method: "POST", url: format!("{}/leads", api.url), body: body.into(), ids: Vec::new() },
            script: format!("{random}{};\n", filled(statements.insert.as_str(), create)),
            bound: Bound::AtLeast(0.60),
        },
        Operation {
            name: "update",
            request: Request {
                method: "PUT",
                url: format!("{}/leads/", api.url),
                body: r#"{"notes":"changed %s"}"#.into(),
                ids: ids.clone(),
            },
            script: format!(
                "{random}\\set number random(1, {CHOSEN})\n{} \\gset\n{};\n",
                filled(statements.get_versioned.as_str(), [workspace.clone(), chosen_id.into()]),
                filled(statements.update.as_str(), update),
            ),
            bound: Bound::AtLeast(0.80),
        },
        Operation {
            name: "list of 50 by status",
            request: Request {
                method: "GET",
                url: format!("{}/leads?status=qualified&limit=50", api.url),
                body: String::new(),
                ids: Vec::new(),
            },
            script: format!("{};\n", filled(&list, [workspace, "'qualified'".into(), "51".into(), "51".into()])),
            bound: Bound::None,
        },
    ])
}

/// A statement with its parameters filled in.
pub(super) fn filled(statement: &str, parameters: impl IntoIterator<Item = String>) -> String {
    let parameters: Vec<String> = parameters.into_iter().collect();
    let mut filled = statement.replace('\n', " ");
    // From the last to the first, so that $1 is not found in $10.
    for (index, parameter) in parameters.iter().enumerate().rev() {
        filled = filled.replace(&format!("${}", index + 1), parameter);
    }
    filled
}

async fn pgbench(harness: &Harness, script: &Path, clients: usize, time: Duration) -> Result<f64> {
    let clients = clients.to_string();
    let seconds = time.as_secs().max(1).to_string();
    let script = script.display().to_string();
    let mut command: Command = harness.program("pgbench");
    command.args(["-n", "-M", "prepared", "-j", "2", "-c", &clients, "-T", &seconds, "-f", &script, harness.url()]);
    let report = succeed(&mut command).await?;
    ensure!(report.contains("number of failed transactions: 0 "), "pgbench failed: {report}");
    let tps = report.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench reports no tps")?;
    Ok(tps.split_whitespace().next().unwrap_or_default().parse()?)
}
