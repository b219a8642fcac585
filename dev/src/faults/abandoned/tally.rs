//! The responses to the other tenant, and the records written by the attacker.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Result;

use super::attack::Attack;
use crate::faults::harness::Harness;

/// The number of wrong responses that are shown.
const EXAMPLES: usize = 5;

/// The responses to a tenant.
#[derive(Default)]
pub struct Tally {
    took: Vec<Duration>,
    wrong: usize,
    examples: Vec<String>,
}

impl Tally {
    /// Adds a response, with its text if it is wrong.
    pub fn add(&mut self, took: Duration, is_right: bool, response: impl FnOnce() -> String) {
        self.took.push(took);
        if !is_right {
            self.wrong += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(response());
            }
        }
    }

    /// The 99th percentile of the response times.
    pub fn p99(&self) -> Duration {
        self.percentile(99)
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len() * percent / 100).copied().unwrap_or_default()
    }

    /// The broken guarantees.
    pub fn wrong(&self) -> Vec<String> {
        let examples = self.examples.iter().take(EXAMPLES).map(|text| format!("\n  {text}")).collect::<String>();
        let wrong = format!("{} of {} responses were wrong, such as{examples}", self.wrong, self.took.len());
        if self.wrong > 0 { vec![wrong] } else { Vec::new() }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum.took.extend(tally.took);
            sum.wrong += tally.wrong;
            sum.examples.extend(tally.examples);
            sum
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { took, wrong, .. } = self;
        let (p50, p99) = (self.percentile(50), self.p99());
        write!(f, "{} of the other tenant, {wrong} wrong responses, p50 {p50:.1?}, p99 {p99:.1?}", took.len())
    }
}

/// Compares the records written by the attacker with the responses in the log of the API.
///
/// # Errors
/// If the database or the log cannot be read.
pub async fn check_writes(harness: &Harness, attack: &Attack) -> Result<Vec<String>> {
    let mut statuses: BTreeMap<(&str, &str, String), usize> = BTreeMap::new();
    let workspace = format!("workspace_id={}", attack.workspace_id);
    let log = harness.api_log()?;
    for line in log.lines().filter(|line| line.contains(&workspace)) {
        let value = |name: &str| line.split_once(name)?.1.split([' ', '"']).find(|part| !part.is_empty());
        if let (Some(method), Some(route), Some(status)) = (value("method="), value("route="), value("status=")) {
            *statuses.entry((method, route, status.to_owned())).or_default() += 1;
        }
    }
    let answered = |method: &str, route: &str, status: Option<&str>| -> usize {
        let counted = statuses
            .iter()
            .filter(|((m, r, s), _)| *m == method && *r == route && status.is_none_or(|status| s == status));
        counted.map(|(_, count)| count).sum()
    };
    let (leads, lead) = ("/dev/crm/leads", "/dev/crm/leads/{leadId}");
    let count = async |statement: &'static str| -> Result<usize> {
        let counted: i64 = sqlx::query_scalar(statement).bind(attack.workspace_id).fetch_one(&harness.pool).await?;
        Ok(usize::try_from(counted)?)
    };
    let mut broken = Vec::new();
    let mut same = |what: &str, found: usize, expected: usize| {
        println!("{what}: {found}, {expected} expected");
        if found != expected {
            broken.push(format!("{what}: {found} instead of {expected}"));
        }
    };
    let sent = attack.creates.load(Relaxed) + 1;
    same("responses to creations of leads", answered("POST", leads, None), sent);
    let created =
        count("SELECT count(*) FROM leads WHERE workspace_id = $1 AND (email LIKE 'new%' OR email LIKE 'updated%')")
            .await?;
    same("created leads", created, answered("POST", leads, Some("201")));
    same("responses to updates", answered("PUT", lead, None), attack.updates.load(Relaxed));
    let updates = count("SELECT count(*) FROM history WHERE workspace_id = $1 AND action = 'updated'").await?;
    same("updates in the history", updates, answered("PUT", lead, Some("200")));
    let customers = count("SELECT count(*) FROM customers WHERE workspace_id = $1").await?;
    same("customers", customers, 1);
    let orders = count("SELECT count(*) FROM orders WHERE workspace_id = $1").await?;
    same("orders", orders, 0);
    Ok(broken)
}
