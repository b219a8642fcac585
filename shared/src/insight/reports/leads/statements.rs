//! The statements of the lead report.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{LeadTotals, OutcomeCount, Outcomes, OwnerCount, OwnerMetrics, Scope};
use crate::crm::leads::{LeadSource, LeadStatus};
use crate::error::Result;
use crate::insight::filters::Sql;
use crate::insight::period::Period;
use crate::insight::ratio::Rate;
use crate::insight::reports::counts::Counts;

/// The most owners that are reported.
const MAX_OWNERS: usize = 1_000;

/// All leads.
pub(super) async fn totals(connection: &mut PgConnection, scope: Scope<'_>) -> Result<LeadTotals> {
    let mut sql = Sql::new("SELECT status, source, assigned_to, count(*) FROM leads WHERE workspace_id = ");
    sql.push_bind(scope.workspace_id);
    scope.filters.push_leads(&mut sql);
    sql.push(" GROUP BY status, source, assigned_to");
    let cells: Vec<(String, String, Option<Uuid>, i64)> = sql.build_query_as().fetch_all(&mut *connection).await?;
    let mut of_owner: HashMap<Option<Uuid>, i64> = HashMap::new();
    for (_, _, owner, leads) in &cells {
        *of_owner.entry(*owner).or_default() += leads;
    }
    let sum = |is: &dyn Fn(&str, &str) -> bool| {
        cells.iter().filter(|(status, source, ..)| is(status, source)).map(|(.., leads)| leads).sum()
    };
    let owners = i64::try_from(of_owner.len()).unwrap_or(i64::MAX);
    let first = most(of_owner.into_iter().collect(), |leads| *leads);
    let names = names(connection, scope.workspace_id, &first).await?;
    let by_owner = first.into_iter().map(|(assigned_to, leads)| OwnerCount {
        assigned_to,
        name: name(&names, assigned_to),
        leads,
    });
    Ok(LeadTotals {
        leads: sum(&|_, _| true),
        by_status: Counts::of(LeadStatus::WORDS, |word| sum(&|status, _| status == word)),
        by_source: Counts::of(LeadSource::WORDS, |word| sum(&|_, source| source == word)),
        by_owner: by_owner.collect(),
        owners,
    })
}

/// The owners with the most leads, most first; unassigned leads come after others with as many.
fn most<T>(mut owners: Vec<(Option<Uuid>, T)>, leads: impl Fn(&T) -> i64) -> Vec<(Option<Uuid>, T)> {
    owners.sort_by_key(|(owner, of)| (std::cmp::Reverse(leads(of)), owner.is_none(), *owner));
    owners.truncate(MAX_OWNERS);
    owners
}

/// The names of those owners who are users.
async fn names<T>(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    owners: &[(Option<Uuid>, T)],
) -> Result<HashMap<Uuid, String>> {
    let ids: Vec<Uuid> = owners.iter().filter_map(|(owner, _)| *owner).collect();
    let names: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, name FROM users WHERE workspace_id = $1 AND id = ANY ($2)")
            .bind(workspace_id)
            .bind(ids)
            .fetch_all(connection)
            .await?;
    Ok(names.into_iter().collect())
}

fn name(names: &HashMap<Uuid, String>, owner: Option<Uuid>) -> Option<String> {
    names.get(&owner?).cloned()
}

/// Created leads, and the stages that they have reached: of a source and an interval, or of an owner.
#[derive(Debug, Clone, Default, FromRow)]
pub(super) struct Cell {
    /// The source; `None` in the cells of owners.
    pub source: Option<String>,
    /// The number of the interval, from 1; `None` in the cells of owners.
    pub bucket: Option<i32>,
    assigned_to: Option<Uuid>,
    pub leads: i64,
    pub score: f64,
    pub conversions: i64,
    pub lost: i64,
    pub contacted: i64,
    pub qualified: i64,
    pub proposal: i64,
    pub negotiation: i64,
    pub converted: i64,
    pub won: i64,
}

impl Cell {
    pub fn sum<'a>(cells: impl IntoIterator<Item = &'a Self>) -> Self {
        cells.into_iter().fold(Self::default(), |sum, cell| Self {
            source: None,
            bucket: None,
            assigned_to: None,
            leads: sum.leads + cell.leads,
            score: sum.score + cell.score,
            conversions: sum.conversions + cell.conversions,
            lost: sum.lost + cell.lost,
            contacted: sum.contacted + cell.contacted,
            qualified: sum.qualified + cell.qualified,
            proposal: sum.proposal + cell.proposal,
            negotiation: sum.negotiation + cell.negotiation,
            converted: sum.converted + cell.converted,
            won: sum.won + cell.won,
        })
    }
}

/// Groups the leads once, by all three columns, which several processes can do together, and then the groups.
pub(super) async fn cells(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<Vec<Cell>> {
    let mut sql = Sql::new(
        "WITH cells AS MATERIALIZED (
             SELECT source, assigned_to, bucket, count(*) AS leads, sum(score) AS score,
                 count(*) FILTER (WHERE status IN ('converted', 'won')) AS conversions,
                 count(*) FILTER (WHERE status = 'lost') AS lost,
                 count(*) FILTER (WHERE stage >= 1) AS contacted, count(*) FILTER (WHERE stage >= 2) AS qualified,
                 count(*) FILTER (WHERE stage >= 3) AS proposal, count(*) FILTER (WHERE stage >= 4) AS negotiation,
                 count(*) FILTER (WHERE stage >= 5) AS converted, count(*) FILTER (WHERE stage >= 6) AS won
             FROM (
                 SELECT source, assigned_to, score, status,
                     CASE WHEN won_at IS NOT NULL THEN 6 WHEN converted_at IS NOT NULL THEN 5
                         WHEN negotiation_at IS NOT NULL THEN 4 WHEN proposal_at IS NOT NULL THEN 3
                         WHEN qualified_at IS NOT NULL THEN 2 WHEN contacted_at IS NOT NULL THEN 1 ELSE 0 END AS stage,
                     width_bucket(created_at, ",
    );
    sql.push_bind(period.bucket_starts());
    sql.push(") AS bucket FROM leads WHERE workspace_id = ").push_bind(scope.workspace_id);
    push_in_period(&mut sql, "created_at", period);
    scope.filters.push_leads(&mut sql);
    sql.push(
        ") AS made
             GROUP BY source, assigned_to, bucket
         )
         SELECT source, assigned_to, bucket, sum(leads)::bigint AS leads, sum(score) AS score,
             sum(conversions)::bigint AS conversions, sum(lost)::bigint AS lost,
             sum(contacted)::bigint AS contacted, sum(qualified)::bigint AS qualified,
             sum(proposal)::bigint AS proposal, sum(negotiation)::bigint AS negotiation,
             sum(converted)::bigint AS converted, sum(won)::bigint AS won
         FROM cells GROUP BY GROUPING SETS ((source, bucket), (assigned_to))",
    );
    Ok(sql.build_query_as().fetch_all(connection).await?)
}

fn push_in_period(sql: &mut Sql, column: &str, period: &Period) {
    sql.push(format!(" AND {column} >= ")).push_bind(period.from);
    sql.push(format!(" AND {column} < ")).push_bind(period.to);
}

/// The created leads of each owner, with names.
pub(super) async fn by_owner(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    cells: &[Cell],
) -> Result<Vec<OwnerMetrics>> {
    let owners = cells.iter().filter(|cell| cell.bucket.is_none()).map(|cell| (cell.assigned_to, cell));
    let first = most(owners.collect(), |cell| cell.leads);
    let names = names(connection, scope.workspace_id, &first).await?;
    let metrics = |(assigned_to, cell): (Option<Uuid>, &Cell)| OwnerMetrics {
        assigned_to,
        name: name(&names, assigned_to),
        leads: cell.leads,
        conversions: cell.conversions,
        rate: Rate::new(cell.conversions, cell.leads),
    };
    Ok(first.into_iter().map(metrics).collect())
}

/// The leads that were first converted, won or lost in each interval, from an index of each of these times.
pub(super) async fn outcomes(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<Outcomes> {
    let mut sql = Sql::new("SELECT bucket, outcome, count(*) FROM (");
    for (number, outcome) in OUTCOMES.iter().enumerate() {
        let begin = if number == 0 { "SELECT" } else { " UNION ALL SELECT" };
        sql.push(format!("{begin} '{outcome}' AS outcome, width_bucket({outcome}_at, "));
        sql.push_bind(period.bucket_starts());
        sql.push(") AS bucket FROM leads WHERE workspace_id = ").push_bind(scope.workspace_id);
        push_in_period(&mut sql, &format!("{outcome}_at"), period);
        scope.filters.push_leads(&mut sql);
    }
    sql.push(") AS outcomes GROUP BY bucket, outcome");
    let rows: Vec<(i32, String, i64)> = sql.build_query_as().fetch_all(connection).await?;
    let counts: HashMap<(i32, &str), i64> =
        rows.iter().map(|(bucket, outcome, count)| ((*bucket, outcome.as_str()), *count)).collect();
    let total = |of: &str| rows.iter().filter(|(_, outcome, _)| outcome == of).map(|(.., count)| count).sum();
    let of_interval = |(number, interval)| {
        let count = |outcome| counts.get(&(number, outcome)).copied().unwrap_or(0);
        OutcomeCount { interval, converted: count("converted"), won: count("won"), lost: count("lost") }
    };
    Ok(Outcomes {
        converted: total("converted"),
        won: total("won"),
        lost: total("lost"),
        by_interval: (1..).zip(period.buckets()).map(of_interval).collect(),
    })
}

const OUTCOMES: [&str; 3] = ["converted", "won", "lost"];

/// The median numbers of days from creation to each stage.
#[derive(Debug, Clone, Default, FromRow)]
pub(super) struct DaysTo {
    pub contacted: Option<f64>,
    pub qualified: Option<f64>,
    pub proposal: Option<f64>,
    pub negotiation: Option<f64>,
    pub converted: Option<f64>,
    pub won: Option<f64>,
    pub convert_mean: Option<f64>,
    pub convert_median: Option<f64>,
}

/// The days from creation to each stage. An imported lead may have reached a stage before its creation, which
/// counts as 0 days.
pub(super) async fn days(connection: &mut PgConnection, scope: Scope<'_>, period: &Period) -> Result<DaysTo> {
    let days = |time: &str| format!("greatest(extract(epoch FROM {time} - created_at)::float8 / 86400, 0)");
    let median = |days: &str, which: &str, name: &str| {
        format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {days}) FILTER (WHERE {which}) AS {name}")
    };
    let stages = ["contacted", "qualified", "proposal", "negotiation", "converted", "won"];
    let stages = stages.map(|name| median(&days(&format!("{name}_at")), &format!("{name}_at IS NOT NULL"), name));
    let (first, which) = ("least(converted_at, won_at)", "status IN ('converted', 'won')");
    let (to_convert, which) = (days(first), format!("{which} AND {first} IS NOT NULL"));
    let mut sql = Sql::new(format!(
        "SELECT {}, avg({to_convert}) FILTER (WHERE {which}) AS convert_mean, {} FROM leads WHERE workspace_id = ",
        stages.join(", "),
        median(&to_convert, &which, "convert_median"),
    ));
    sql.push_bind(scope.workspace_id);
    push_in_period(&mut sql, "created_at", period);
    scope.filters.push_leads(&mut sql);
    Ok(sql.build_query_as().fetch_one(connection).await?)
}
