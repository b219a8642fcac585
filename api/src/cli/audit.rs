//! `crm-api audit`

use anyhow::Result;
use clap::Args;
use shared::accounts::audit;
use shared::operations::actions::{self, ActionFilter, OperatorAction};
use shared::operations::selection;
use sqlx::PgConnection;

use super::select::pairs;
use super::show::{print_json, show};
use super::table::{Table, or_dash, short, time};
use super::{find_workspace, options, sentence};

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    /// Show what happened in this workspace instead: its own audit log.
    #[arg(long, value_name = "NAME_OR_ID", conflicts_with_all = ["operator", "action"])]
    workspace: Option<String>,
    /// Only what was done at this time or later.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    since: Option<String>,
    /// Only what this operator did: the name, the user of a command, or the id.
    #[arg(long, value_name = "NAME_OR_ID")]
    operator: Option<String>,
    /// Only actions of this name, such as jobs.retry, or of this group, such as jobs.
    #[arg(long)]
    action: Option<String>,
    /// How many to list at most, up to 1000.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl AuditArguments {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        let Self { workspace, since, operator, action, limit, json } = self;
        let pairs = pairs([("since", since), ("operator", operator), ("action", action), ("limit", Some(limit))]);
        let (filter, limit) = selection::list::<ActionFilter>(&pairs).map_err(options)?;
        let Some(workspace) = workspace else {
            let actions = actions::list(connection, &filter, limit).await.map_err(sentence)?;
            return show(&actions, json, || print(&actions));
        };
        let workspace = find_workspace(connection, &workspace).await?;
        let entries = audit::recent(connection, workspace.id, filter.since(), limit).await.map_err(sentence)?;
        if json {
            return print_json(&entries);
        }
        let mut table = Table::new(["time", "type", "subject", "actor", "request"]);
        for entry in entries {
            table.row([
                time(Some(entry.created_at)),
                entry.event_type.as_str().to_owned(),
                format!("{} {}", entry.subject.kind.as_str(), entry.subject.id),
                format!("{} {}", entry.actor.kind, or_dash(entry.actor.id)),
                or_dash(entry.request_id),
            ]);
        }
        table.print();
        Ok(())
    }
}

fn print(actions: &[OperatorAction]) {
    let mut table =
        Table::new(["started", "actor", "source", "action", "matched", "done", "ended", "arguments", "error"]);
    for action in actions {
        let ended = action.finished_at.map_or_else(|| "not finished".to_owned(), |at| time(Some(at)));
        table.row([
            time(Some(action.started_at)),
            action.actor.clone(),
            action.source.clone(),
            action.action.clone(),
            or_dash(action.matched),
            or_dash(action.done),
            ended,
            short(Some(&action.arguments.to_string())),
            short(action.error.as_deref()),
        ]);
    }
    table.print();
}
