//! `crm-api operators`

use anyhow::{Result, anyhow};
use clap::Subcommand;
use serde_json::json;
use shared::Error;
use shared::operations::operators::{self, EXPIRES_IN_DAYS, Operator};
use sqlx::PgConnection;
use uuid::Uuid;

use super::act::audited;
use super::keys::state;
use super::show::{print_json, show};
use super::table::{Table, time};
use super::{day, or_missing, sentence};

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// Create an operator and print the key for the operator API; it cannot be shown again.
    Create {
        /// A unique name, which the audit shows.
        name: String,
        /// How many days the key works.
        #[arg(long, value_name = "N", default_value_t = EXPIRES_IN_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in_days: u32,
        /// The key works until it is revoked.
        #[arg(long, conflicts_with = "expires_in_days")]
        never: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List operators, with the time at which each key was last used.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an operator: its next request is refused.
    Revoke {
        /// The operator's id, as `operators list` prints it.
        id: Uuid,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl OperatorCommand {
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<()> {
        match self {
            Self::Create { name, expires_in_days, never, json } => {
                let days = (!never).then_some(expires_in_days);
                let arguments = json!({ "name": name, "expires_in_days": days });
                let create = async |connection: &mut PgConnection, _| operators::create(connection, &name, days).await;
                let created = audited(connection, "operators.create", arguments, create).await;
                let (key, operator) = created.map_err(|error| match error {
                    Error::Conflict(_) => anyhow!("the operator {name:?} already exists"),
                    error => sentence(error),
                })?;
                if json {
                    let mut document = serde_json::to_value(&operator)?;
                    document["key"] = json!(key.reveal());
                    return print_json(&document);
                }
                println!("{}", key.reveal());
                let until = operator.expires_at.map_or_else(String::new, |at| format!(" It expires {}.", day(at)));
                eprintln!("Created the operator {} ({name:?}). The key is shown only once.{until}", operator.id);
                Ok(())
            }
            Self::List { json } => {
                let operators = operators::list(connection).await.map_err(sentence)?;
                show(&operators, json, || print(&operators))
            }
            Self::Revoke { id, json } => {
                let revoke = async |connection: &mut PgConnection, _| operators::revoke(connection, id).await;
                let revoked = audited(connection, "operators.revoke", json!({ "operator": id }), revoke).await;
                let operator = revoked.map_err(or_missing(format!("there is no operator {id}")))?;
                show(&operator, json, || print(std::slice::from_ref(&operator)))
            }
        }
    }
}

fn print(operators: &[Operator]) {
    let mut table = Table::new(["id", "name", "key", "created", "last used", "state"]);
    for operator in operators {
        table.row([
            operator.id.to_string(),
            operator.name.clone(),
            format!("{}…", operator.prefix),
            day(operator.created_at),
            time(operator.last_used_at),
            state(operator.revoked_at, operator.expires_at),
        ]);
    }
    table.print();
}
