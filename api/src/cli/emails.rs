//! `crm-api emails`

use anyhow::Result;
use clap::{Args, Subcommand};
use shared::operations::command::Command;
use shared::operations::emails::{self, Decision, EmailFilter};
use sqlx::PgConnection;

use super::select::{Change, Common, Count, List, Options};
use super::show::Show;
use super::table::{Table, short, time};

#[derive(Debug, Subcommand)]
pub(super) enum EmailCommand {
    /// List emails of all workspaces, the newest first.
    List(List<Which>),
    /// Show an email, with its Message-ID and without its body.
    Show(Show),
    /// Count emails.
    Count(Count<Which>),
    /// Send emails again that are unknown or bounced, except to people who have opted out since.
    Resend(Change<Which>),
    /// Mark unknown emails as sent, because the log of the mail server shows that it accepted them.
    MarkSent(Change<Which>),
    /// Cancel emails that wait to be sent.
    Cancel(Change<Which>),
}

/// The options that select emails.
#[derive(Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    common: Common,
    /// Only emails in this state: queued, sending, sent, deferred, bounced, suppressed, unknown, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Only emails of this event, such as nurture or feedback_request.
    #[arg(long)]
    event: Option<String>,
    /// Only emails to recipients at this domain.
    #[arg(long)]
    domain: Option<String>,
}

impl Options for Which {
    type Filter = EmailFilter;

    fn pairs(self) -> Vec<(String, String)> {
        let Self { common, state, event, domain } = self;
        common.pairs([("state", state), ("event", event), ("domain", domain)])
    }
}

impl EmailCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        let deciding = |decision| move |selection| Command::Emails(decision, selection);
        match self {
            Self::List(options) => options.run(connection, emails::list, print).await,
            Self::Show(options) => options.run(connection, "email", emails::show).await,
            Self::Count(options) => options.run(connection, emails::count).await,
            Self::Resend(options) => options.run(connection, deciding(Decision::Resend), "queued again").await,
            Self::MarkSent(options) => options.run(connection, deciding(Decision::MarkSent), "marked as sent").await,
            Self::Cancel(options) => options.run(connection, deciding(Decision::Cancel), "cancelled").await,
        }
    }
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
