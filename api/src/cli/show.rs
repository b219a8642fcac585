//! What commands show: as JSON, or for people.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::or_missing;
use super::table::fields;

/// Prints one JSON document on one line.
pub(super) fn print_json(document: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(document)?);
    Ok(())
}

/// Prints a document as JSON, or for people.
pub(super) fn show(document: &impl Serialize, json: bool, print: impl FnOnce()) -> Result<()> {
    if json {
        return print_json(document);
    }
    print();
    Ok(())
}

/// Prints a document as JSON, or its fields for people.
pub(super) fn show_fields(document: &impl Serialize, json: bool) -> Result<()> {
    if json { print_json(document) } else { fields(document) }
}

/// Something with an id.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The id, as the list prints it.
    id: Uuid,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Shows the thing of this kind, such as "job".
    pub async fn run<T: Serialize>(
        self,
        connection: &mut PgConnection,
        kind: &str,
        get: impl AsyncFnOnce(&mut PgConnection, Uuid) -> shared::Result<T>,
    ) -> Result<()> {
        let Self { id, json } = self;
        let found = get(connection, id).await.map_err(or_missing(format!("there is no {kind} {id}")))?;
        show_fields(&found, json)
    }
}
