//! Commands that change something, each with its entry in the audit.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use serde_json::{Value, json};
use shared::Error;
use shared::operations::actions::{self, By, OperatorAction, Outcome};
use shared::operations::command::{Command, Refusal};
use shared::platform::host;
use sqlx::PgConnection;
use uuid::Uuid;

use super::show::print_json;
use super::{options, sentence};

/// A command changed nothing, because the number of matching jobs or emails was not the expected one. It shows that
/// number.
#[derive(Debug)]
pub struct Unchanged(String);

impl fmt::Display for Unchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unchanged {}

/// Does what a command says, and returns its action.
///
/// # Errors
/// [`Unchanged`], or why it failed.
pub(super) async fn act(connection: &mut PgConnection, command: Command, json: bool) -> Result<OperatorAction> {
    let prepared = command.prepare(connection).await.map_err(|refusal| match refusal {
        Refusal::CountDiffers { matched } if json => Unchanged(json!({ "matched": matched }).to_string()).into(),
        Refusal::CountDiffers { matched } => Unchanged(count_differs(matched)).into(),
        Refusal::Failed(error) => options(error),
    })?;
    let begun = prepared.begin(connection, &by()).await.map_err(sentence)?;
    begun.run(connection).await.map_err(|error| match error {
        Error::NotFound => anyhow::anyhow!("it does not exist"),
        error => options(error),
    })
}

/// The number that matches, and the command that changes them.
fn count_differs(matched: i64) -> String {
    if matched == 0 {
        return "0 match; nothing was changed.".to_owned();
    }
    let mut words = vec!["crm-api".to_owned()];
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        if word == "--expect" {
            given.next();
        } else if !word.starts_with("--expect=") {
            words.push(quoted(word));
        }
    }
    format!("{matched} match; nothing was changed. To change them:\n  {} --expect {matched}", words.join(" "))
}

/// A word for a shell.
fn quoted(word: String) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=.:/@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Prints what an action changed.
pub(super) fn print_action(action: &OperatorAction, what: &str, json: bool) -> Result<()> {
    if json {
        return print_json(action);
    }
    let OperatorAction { matched, done, result, .. } = action;
    let (matched, done) = (matched.unwrap_or(0), done.unwrap_or(0));
    let count = |name: &str| result.as_ref().and_then(|result| result[name].as_i64()).unwrap_or(0);
    let mut text = format!("{matched} matched, {done} {what}");
    if count("unchanged") > 0 {
        text.push_str(&format!(", {} could no longer be changed or are done by another job", count("unchanged")));
    }
    println!("{text}.");
    if count("too_many_emails") > 0 {
        println!(
            "{} were left out, because somebody has to confirm how many emails they write \
             (POST /dev/crm/jobs/{{id}}/retry?confirm=N):",
            count("too_many_emails")
        );
        let ids = result.as_ref().and_then(|result| result["too_many_emails_ids"].as_array());
        for id in ids.into_iter().flatten().filter_map(Value::as_str) {
            println!("  {id}");
        }
    }
    Ok(())
}

/// Runs a command between the beginning and the end of its entry in the audit. The command gets the id of its action.
///
/// # Errors
/// The error of the command.
pub(super) async fn audited<T, E: fmt::Display + From<Error>>(
    connection: &mut PgConnection,
    action: &str,
    arguments: Value,
    command: impl AsyncFnOnce(&mut PgConnection, Uuid) -> Result<T, E>,
) -> Result<T, E> {
    let id = actions::begin(connection, &by(), action, &arguments, None).await?;
    let done = command(connection, id).await;
    let outcome = done.as_ref().map(|_| Outcome::default()).map_err(ToString::to_string);
    if let Err(error) = actions::finish(connection, id, outcome).await {
        // What the command returns, such as a key, is shown only once.
        eprintln!("crm-api: the end of this command could not be recorded in the audit: {error}");
    }
    done
}

/// The user of this process and its machine.
fn by() -> By {
    let uid = fs::metadata("/proc/self").map(|process| process.uid()).ok();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse().ok() == uid && uid.is_some()).then(|| name.to_owned())
    });
    let user = named.or_else(|| uid.map(|uid| uid.to_string())).unwrap_or_else(|| "unknown".to_owned());
    By::command(format!("{user}@{}", host::name()))
}
