//! `crm-api emails`

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;
use shared::Error;
use shared::operations::command::Command;
use shared::operations::emails::{self, Decision, EmailFilter};
use shared::operations::selection;
use sqlx::PgConnection;
use uuid::Uuid;

use super::act::{Chosen, act, options, pairs, print_action, print_json, show};
use super::sentence;
use super::table::{Table, fields, short, time};

#[derive(Debug, Subcommand)]
pub(super) enum EmailCommand {
    /// List emails of all workspaces, the newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// How many to list at most, up to 1000.
        #[arg(long, value_name = "N", default_value = "50")]
        limit: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an email, with its Message-ID and without its body.
    Show {
        /// The email's id.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Count emails.
    Count {
        #[command(flatten)]
        which: Which,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send emails again that are unknown or bounced, except to people who have opted out since.
    Resend {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Mark unknown emails as sent, because the log of the mail server shows that it accepted them.
    MarkSent {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Cancel emails that wait to be sent.
    Cancel {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        chosen: Chosen,
    },
}

/// The options that select emails.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only emails of this workspace.
    #[arg(long, value_name = "NAME_OR_ID")]
    workspace: Option<String>,
    /// Only emails in this state: queued, sending, sent, deferred, bounced, suppressed, unknown, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Only emails of this event, such as nurture or feedback_request.
    #[arg(long)]
    event: Option<String>,
    /// Only emails to recipients at this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Only emails that were created at this time or later.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_after: Option<String>,
    /// Only emails that were created before this time.
    #[arg(long, value_name = "DATE_OR_TIMESTAMP")]
    created_before: Option<String>,
    /// Only emails that were created longer ago than this: 90s, 15m, 2h or 7d.
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
}

impl Which {
    fn pairs(self) -> Vec<(String, String)> {
        let Self { workspace, state, event, domain, created_after, created_before, older_than } = self;
        pairs([
            ("workspace", workspace),
            ("state", state),
            ("event", event),
            ("domain", domain),
            ("created_after", created_after),
            ("created_before", created_before),
            ("older_than", older_than),
        ])
    }
}

impl EmailCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::List { which, limit, json } => {
                let mut pairs = which.pairs();
                pairs.push(("limit".to_owned(), limit));
                let (filter, limit) = selection::list::<EmailFilter>(&pairs).map_err(options)?;
                let emails = emails::list(connection, &filter, limit).await.map_err(options)?;
                show(&emails, json, || print(&emails))
            }
            Self::Show { id, json } => {
                let email = emails::show(connection, id).await.map_err(|error| match error {
                    Error::NotFound => anyhow!("there is no email {id}"),
                    error => sentence(error),
                })?;
                if json { print_json(&email) } else { fields(&email) }
            }
            Self::Count { which, json } => {
                let filter = selection::count::<EmailFilter>(&which.pairs()).map_err(options)?;
                let count = emails::count(connection, &filter).await.map_err(options)?;
                show(&json!({ "count": count }), json, || println!("{count}"))
            }
            Self::Resend { which, chosen } => decide(connection, Decision::Resend, which, &chosen).await,
            Self::MarkSent { which, chosen } => decide(connection, Decision::MarkSent, which, &chosen).await,
            Self::Cancel { which, chosen } => decide(connection, Decision::Cancel, which, &chosen).await,
        }
    }
}

async fn decide(connection: &mut PgConnection, decision: Decision, which: Which, chosen: &Chosen) -> Result<()> {
    let command = Command::Emails(decision, chosen.selection(which.pairs())?);
    let what = match decision {
        Decision::Resend => "queued again",
        Decision::MarkSent => "marked as sent",
        Decision::Cancel => "cancelled",
    };
    print_action(&act(connection, command, chosen.json).await?, what, chosen.json)
}

fn print(emails: &[emails::EmailSummary]) {
    let mut table = Table::new(["id", "workspace", "state", "event", "to", "created", "next try", "answer"]);
    for email in emails {
        table.row([
            email.id.to_string(),
            email.workspace.clone(),
            email.state.as_str().to_owned(),
            email.event.as_str().to_owned(),
            email.to_email.clone(),
            time(Some(email.created_at)),
            time(email.next_try_at),
            short(email.answer.as_deref()),
        ]);
    }
    table.print();
}
