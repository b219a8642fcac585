//! The brake: keeps a run that nobody asked for at that moment from writing unusually many emails.
//!
//! A run that a caller starts writes at once. Any other run first walks its pages as a dry run does, and counts
//! the emails. If there are more than the brake allows, the job fails and has written nothing; a caller can
//! retry it and confirm a number. Otherwise it walks its pages again and writes, up to what the brake allows.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings;
use crate::error::Result;
use crate::queue::{Page, Pages, Payload};

/// The code at the beginning of the error of a job that the brake has stopped.
pub const TOO_MANY_EMAILS: &str = "too_many_emails";
/// A run of this size is never unusual.
const USUAL: i64 = 1_000;
/// How much larger than the largest run of late a run may be.
const GROWTH: i64 = 10;

/// How a run was started: a part of its payload. Payloads without it were started by nobody in particular.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// Whether a caller asked for the run, which confirms it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// The most emails that the run may write, if a caller has confirmed a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u32>,
}

impl Start {
    fn is_confirmed(self) -> bool {
        self.asked || self.confirm.is_some()
    }
}

/// What a page of a run does with the emails that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Counts and lists them.
    Preview,
    /// Writes them, up to a number of emails of the whole run. The others stay due.
    Write {
        /// The number, if it is limited.
        most: Option<i64>,
    },
}

impl Mode {
    /// Whether nothing is written.
    pub fn is_preview(self) -> bool {
        self == Self::Preview
    }

    /// How many emails may still be written, after so many.
    pub(super) fn left(self, written: i64) -> i64 {
        match self {
            Self::Write { most: Some(most) } => (most - written).max(0),
            Self::Write { most: None } | Self::Preview => i64::MAX,
        }
    }
}

/// A run that writes emails, page by page, and that the brake can stop. It is [`Pages`] by that.
pub trait Mailing: Payload {
    /// See [`Pages::Cursor`].
    type Cursor: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;
    /// See [`Pages::Tally`].
    type Tally: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;

    /// How it was started.
    fn start(&self) -> Start;

    /// See [`Pages::begin`].
    fn begin_tally(&self) -> Self::Tally;

    /// See [`Pages::done`].
    fn count_done(&self, tally: &Self::Tally) -> i64;

    /// How many emails have been written, or would be.
    fn emails(tally: &Self::Tally) -> i64;

    /// See [`Pages::page`].
    fn mail_page(
        &self,
        page: &mut Page<'_>,
        mode: Mode,
        cursor: Option<Self::Cursor>,
        tally: &mut Self::Tally,
    ) -> impl Future<Output = Result<Option<Self::Cursor>>> + Send;
}

/// Where a run stands. A run that began before there was a brake has recorded its page alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Position<C, T> {
    /// The phase, with its page.
    Phase(Phase<C, T>),
    /// The page at which it writes.
    Page(C),
}

/// What a run does at its pages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase<C, T> {
    /// It counts the emails that it would write.
    Counting {
        /// The next page.
        at: Option<C>,
        /// What it has counted.
        counted: T,
    },
    /// It writes emails, or previews them for a dry run.
    Writing {
        /// The next page.
        at: Option<C>,
        /// The most emails that the brake allows.
        most: Option<i64>,
    },
}

impl<M: Mailing> Pages for M {
    type Cursor = Position<M::Cursor, M::Tally>;
    type Tally = M::Tally;

    fn begin(&self) -> Self::Tally {
        self.begin_tally()
    }

    fn done(&self, tally: &Self::Tally) -> i64 {
        self.count_done(tally)
    }

    async fn page(
        &self,
        page: &mut Page<'_>,
        position: Option<Self::Cursor>,
        tally: &mut Self::Tally,
    ) -> Result<Option<Self::Cursor>> {
        let next = match phase(self, position) {
            Phase::Counting { at, counted } => Some(count(self, page, at, counted).await?),
            Phase::Writing { at, most } => write(self, page, (at, most), tally).await?,
        };
        Ok(next.map(Position::Phase))
    }
}

/// The phase of the next page.
fn phase<M: Mailing>(run: &M, position: Option<Position<M::Cursor, M::Tally>>) -> Phase<M::Cursor, M::Tally> {
    let writes = run.is_dry_run() || run.start().is_confirmed();
    match position {
        // Also if it was confirmed after it had begun to count.
        None | Some(Position::Phase(Phase::Counting { .. })) if writes => Phase::Writing { at: None, most: None },
        None => Phase::Counting { at: None, counted: run.begin_tally() },
        Some(Position::Phase(phase)) => phase,
        Some(Position::Page(page)) => Phase::Writing { at: Some(page), most: None },
    }
}

/// Counts the emails of a page. After the last page, the brake decides.
async fn count<M: Mailing>(
    run: &M,
    page: &mut Page<'_>,
    at: Option<M::Cursor>,
    mut counted: M::Tally,
) -> Result<Phase<M::Cursor, M::Tally>> {
    match run.mail_page(page, Mode::Preview, at, &mut counted).await? {
        None => decide(run, page, M::emails(&counted)).await,
        at => Ok(Phase::Counting { at, counted }),
    }
}

/// Writes the emails of a page. After the last page, the size of the run is recorded.
async fn write<M: Mailing>(
    run: &M,
    page: &mut Page<'_>,
    (at, most): (Option<M::Cursor>, Option<i64>),
    tally: &mut M::Tally,
) -> Result<Option<Phase<M::Cursor, M::Tally>>> {
    let most = run.start().confirm.map(i64::from).or(most);
    let mode = if run.is_dry_run() { Mode::Preview } else { Mode::Write { most } };
    let at = run.mail_page(page, mode, at, tally).await?;
    if at.is_none() && !mode.is_preview() {
        record(page.connection, page.job.workspace_id, M::KIND, M::emails(tally)).await?;
    }
    Ok(at.map(|at| Phase::Writing { at: Some(at), most }))
}

/// Begins the writing, or lets the job fail; a retry then counts again.
async fn decide<M: Mailing>(run: &M, page: &mut Page<'_>, emails: i64) -> Result<Phase<M::Cursor, M::Tally>> {
    let brake = Brake::of(page.connection, page.job.workspace_id, M::KIND).await?;
    match brake.complaint(emails) {
        None => Ok(Phase::Writing { at: None, most: brake.most() }),
        Some(complaint) => {
            page.failure = Some(complaint);
            Ok(Phase::Counting { at: None, counted: run.begin_tally() })
        }
    }
}

/// What the brake allows a run to write.
#[derive(Debug, Clone, Copy)]
struct Brake {
    /// The workspace's limit, if it has one.
    limit: Option<i64>,
    /// The emails of the largest run of the last 30 days, if there was one.
    largest: Option<i64>,
}

impl Brake {
    async fn of(connection: &mut PgConnection, workspace_id: Uuid, kind: &str) -> Result<Self> {
        let settings = settings::get(connection, workspace_id).await?;
        let largest = sqlx::query_scalar(
            "SELECT max(emails) FROM run_sizes
             WHERE workspace_id = $1 AND kind = $2 AND date > (now() AT TIME ZONE 'UTC')::date - 30",
        )
        .bind(workspace_id)
        .bind(kind)
        .fetch_one(connection)
        .await?;
        Ok(Self { limit: Some(settings.max_emails_per_run.into()).filter(|limit| *limit > 0), largest })
    }

    /// The number that is unusual compared with the largest run.
    fn growth(self) -> Option<i64> {
        self.largest.map(|largest| USUAL.max(largest.saturating_mul(GROWTH)))
    }

    /// The most emails that a run may write.
    fn most(self) -> Option<i64> {
        self.limit.into_iter().chain(self.growth()).min()
    }

    /// Why a run of this size is stopped, if it is.
    fn complaint(self, emails: i64) -> Option<String> {
        let why = match (self.limit, self.largest) {
            (Some(limit), _) if emails > limit => format!("max_emails_per_run is {limit}"),
            (_, Some(largest)) if self.growth().is_some_and(|most| emails > most) => {
                format!("the largest run of the last 30 days wrote {largest}")
            }
            _ => return None,
        };
        Some(format!(
            "{TOO_MANY_EMAILS}: the run would write {emails} emails, and {why}; nothing was written. Retry the job with \
             confirm={emails} to write at most so many"
        ))
    }
}

/// Records the size of a run that ended.
async fn record(connection: &mut PgConnection, workspace_id: Uuid, kind: &str, emails: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO run_sizes (workspace_id, kind, date, emails)
         VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::date, $3)
         ON CONFLICT (workspace_id, kind, date) DO UPDATE SET emails = greatest(run_sizes.emails, excluded.emails)",
    )
    .bind(workspace_id)
    .bind(kind)
    .bind(emails)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM run_sizes
         WHERE workspace_id = $1 AND kind = $2 AND date <= (now() AT TIME ZONE 'UTC')::date - 30",
    )
    .bind(workspace_id)
    .bind(kind)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_allows_the_workspaces_limit_and_ten_times_the_largest_run_but_at_least_a_thousand() {
        for (limit, largest, most) in [
            (None, None, None),
            (Some(20_000), None, Some(20_000)),
            (Some(20_000), Some(0), Some(1_000)),
            (Some(20_000), Some(50), Some(1_000)),
            (Some(20_000), Some(500), Some(5_000)),
            (Some(20_000), Some(5_000), Some(20_000)),
            (Some(10), Some(500), Some(10)),
            (None, Some(500), Some(5_000)),
        ] {
            let brake = Brake { limit, largest };
            assert_eq!(brake.most(), most, "{brake:?}");
            for emails in [0, 10, 11, 1_000, 1_001, 5_000, 5_001, 20_000, 20_001, i64::MAX] {
                assert_eq!(
                    brake.complaint(emails).is_some(),
                    most.is_some_and(|most| emails > most),
                    "{brake:?} {emails}"
                );
            }
        }
        let complaint = Brake { limit: Some(20_000), largest: None }.complaint(20_001).unwrap();
        assert!(complaint.starts_with("too_many_emails: the run would write 20001 emails"), "{complaint}");
    }

    #[test]
    fn a_payload_of_an_earlier_version_was_asked_for_by_nobody() {
        let old: Start = serde_json::from_str(r#"{"dry_run":false}"#).unwrap();
        assert_eq!(old, Start::default());
        assert!(!old.is_confirmed() && Start { asked: true, confirm: None }.is_confirmed());
        assert!(Start { asked: false, confirm: Some(0) }.is_confirmed());
    }
}
