//! Commands about the jobs or emails that match options: they are listed, counted or changed.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use shared::Error;
use shared::operations::command::{Command, Selection};
use shared::operations::selection::{self, Filter};
use sqlx::PgConnection;
use uuid::Uuid;

use super::act::{act, print_action};
use super::options;
use super::show::show;

/// The options that select jobs, or those that select emails.
pub(super) trait Options: Args {
    /// What they become.
    type Filter: Filter;

    /// Those of them that are given, as parameters.
    fn pairs(self) -> Vec<(String, String)>;
}

/// The options that select by workspace and time.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Only those of this workspace.
    #[arg(long, value_name = "NAME_OR_ID")]
    workspace: Option<String>,
    /// Only those that were created at this time or later.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_after: Option<String>,
    /// Only those that were created before this time.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_before: Option<String>,
    /// Only those that were created longer ago than this: 90s, 15m, 2h or 7d.
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
}

impl Common {
    /// The given options as parameters, with those of `others`.
    pub fn pairs<const N: usize>(self, others: [(&str, Option<String>); N]) -> Vec<(String, String)> {
        let Self { workspace, created_after, created_before, older_than } = self;
        let common = [
            ("workspace", workspace),
            ("created_after", created_after),
            ("created_before", created_before),
            ("older_than", older_than),
        ];
        pairs(common.into_iter().chain(others))
    }
}

/// The given options as parameters.
pub(super) fn pairs<'a>(options: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Vec<(String, String)> {
    options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The newest of those that match.
#[derive(Debug, Args)]
pub(super) struct List<O: Options> {
    #[command(flatten)]
    which: O,
    /// How many to list at most, up to 1000.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl<O: Options> List<O> {
    pub async fn run<T: Serialize>(
        self,
        connection: &mut PgConnection,
        list: impl AsyncFnOnce(&mut PgConnection, &O::Filter, i64) -> shared::Result<Vec<T>>,
        print: impl FnOnce(&[T]),
    ) -> Result<()> {
        let mut pairs = self.which.pairs();
        pairs.push(("limit".to_owned(), self.limit));
        let (filter, limit) = selection::list(&pairs).map_err(options)?;
        let listed = list(connection, &filter, limit).await.map_err(options)?;
        show(&listed, self.json, || print(&listed))
    }
}

/// The number of those that match.
#[derive(Debug, Args)]
pub(super) struct Count<O: Options> {
    #[command(flatten)]
    which: O,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl<O: Options> Count<O> {
    pub async fn run(
        self,
        connection: &mut PgConnection,
        count: impl AsyncFnOnce(&mut PgConnection, &O::Filter) -> shared::Result<i64>,
    ) -> Result<()> {
        let filter = selection::count(&self.which.pairs()).map_err(options)?;
        let count = count(connection, &filter).await.map_err(options)?;
        show(&json!({ "count": count }), self.json, || println!("{count}"))
    }
}

/// A change of those that match, or of those with the given ids.
#[derive(Debug, Args)]
pub(super) struct Change<O: Options> {
    #[command(flatten)]
    which: O,
    /// The ids. Without any, those that match the options.
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    /// Everything: stands for the options that select.
    #[arg(long)]
    all: bool,
    /// How many must match. Without it, or if another number matches, the command prints the number, changes nothing,
    /// and exits with code 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), conflicts_with = "ids")]
    expect: Option<i64>,
    /// Print the action as JSON.
    #[arg(long)]
    json: bool,
}

impl<O: Options> Change<O> {
    /// Does what `command` makes of the selection, and prints how many it `changed`, such as "cancelled".
    pub async fn run(
        self,
        connection: &mut PgConnection,
        command: impl FnOnce(Selection<O::Filter>) -> Command,
        changed: &str,
    ) -> Result<()> {
        let json = self.json;
        let action = act(connection, command(self.selection()?), json).await?;
        print_action(&action, changed, json)
    }

    /// # Errors
    /// An invalid option, or ids together with options.
    fn selection(self) -> Result<Selection<O::Filter>> {
        let Self { which, ids, all, expect, json: _ } = self;
        let mut pairs = which.pairs();
        if !ids.is_empty() {
            if all || !pairs.is_empty() {
                bail!("ids cannot be combined with options that select");
            }
            return Ok(Selection::Ids(ids));
        }
        if all {
            pairs.push(("all".to_owned(), "true".to_owned()));
        }
        let filter = selection::filter(&pairs).map_err(|error| match error {
            Error::Invalid(faults) if faults.iter().any(|fault| fault.field == "filter") => {
                anyhow!("name ids, options that select, or --all")
            }
            error => options(error),
        })?;
        Ok(Selection::Matching { filter, expect })
    }
}
