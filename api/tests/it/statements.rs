//! Checks every SQL statement in the source: PostgreSQL prepares it on the current schema, it
//! filters by workspace, and it uses nothing that a database distributed by workspace does not
//! support.

mod source;

use std::collections::BTreeSet;

use regex::Regex;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testing::Database;

use source::{Statement, statements};

/// Tables that belong to no workspace.
const GLOBAL: [&str; 15] = [
    "_sqlx_migrations",
    "api_keys",
    "email_rate_limits",
    "key_rate_limits",
    "mail_breaks",
    "mail_place",
    "numbering",
    "operator_actions",
    "operator_sessions",
    "operators",
    "pauses",
    "rotated_keys",
    "secrets",
    "workers",
    "workspaces",
];

/// Statements that cross workspaces, by a part of their text. They only read and lock nothing; the
/// writes that follow are made workspace by workspace.
const CROSS_WORKSPACES: [&str; 40] = [
    // Workspaces with waiting work, and where it begins.
    "FROM jobs\n    WHERE queue = $5",
    "FROM emails\n    WHERE state IN ('queued', 'deferred') AND lease_until IS NULL\n        AND (workspace_id, run_at, id) >=",
    "FROM jobs\n    WHERE status = 'queued' AND crashes > 0",
    "FROM webhook_queues AS queues LEFT JOIN event_cursors",
    // Expired leases.
    "pg_postmaster_start_time()",
    // Whether a copy of the database could email somebody.
    "SELECT EXISTS (SELECT 1 FROM emails)",
    // Counts for operators.
    "AS state,\n        count(*) AS jobs",
    "SELECT queue, kind, count(*) AS jobs FROM jobs",
    "SELECT workspace_id, state, count(*) AS emails",
    "SELECT count(*) FROM webhooks WHERE disabled_at",
    "WHERE schedules.due_at IS NOT NULL AND",
    "min(due_at)), 0), 0)::float8 FROM schedules",
    "FROM workers LEFT JOIN",
    "count(*) FILTER (WHERE state = 'queued') AS queued",
    "SELECT count(*) AS due",
    "SELECT workspace_id, count(*) AS due,",
    "SELECT kind, error, count(*) AS jobs FROM jobs",
    "SELECT queue, kind, count(*) FILTER",
    "SELECT workspace_id, count(*) FILTER",
    "count(*) FILTER (WHERE lease_until IS NULL AND run_at <= now())",
    // What operators look for in all workspaces.
    "AS unfinished\n            WHERE ($1::uuid IS NULL OR workspace_id = $1)",
    "FROM jobs WHERE finished_at IS NOT NULL AND ($1::uuid IS NULL OR workspace_id = $1)",
    "JOIN jobs ON jobs.workspace_id = workspaces.id",
    "JOIN emails ON emails.workspace_id = workspaces.id",
    "JOIN schedules ON schedules.workspace_id = workspaces.id",
    // Expired rows.
    "SELECT DISTINCT workspace_id FROM uploads",
    "FROM idempotency_keys WHERE created_at <",
    "FROM imports WHERE job_id IS NULL",
    "FROM history AS deletion\n         WHERE action = 'deleted' AND created_at <",
    // How much the uploads that wait take up.
    "coalesce(sum(size), 0)::bigint FROM uploads",
    // Workspaces with stale scores, unread answers or a run that is due.
    "WHERE workspace_id > $1 AND ($2::uuid[] IS NULL",
    "SELECT workspace_id FROM score_states",
    // Events without a number, and how far the feeds reach that are followed.
    "SELECT workspace_id, position FROM new_events",
    "SELECT workspace_id, number FROM event_cursors",
    // Which awaited jobs have ended.
    "JOIN jobs ON jobs.workspace_id = awaited.workspace_id",
    "FROM schedules WHERE due_at <= now()",
    // The domains from which emails of one leased batch may be sent.
    "FROM sender_domains WHERE workspace_id = ANY ($1)",
    // The sending windows of the workspaces in one leased batch.
    "AS zone\n             FROM settings\n             WHERE workspace_id = ANY ($1)",
    // What `crm-api migrate` has still to rewrite.
    "SELECT DISTINCT name FROM backfills",
    "FROM backfills ORDER BY workspace_id, name LIMIT 1",
];

impl Statement {
    fn crosses_workspaces(&self) -> bool {
        CROSS_WORKSPACES.iter().any(|part| self.text.contains(part))
    }

    /// Whether it is more than the first part of a statement.
    fn has_an_end(&self) -> bool {
        self.text.contains("WHERE") || self.text.contains("INSERT INTO")
    }

    /// The tables that it reads or writes, including names that are only known at run time.
    fn tables(&self) -> BTreeSet<String> {
        let text = self.text.replace("(epoch FROM", "(epoch");
        let named = Regex::new(r"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(?:ONLY\s+)?([a-z_]+|\{[a-z_]*\})").unwrap();
        let made = Regex::new(r"\b([a-z_]+)\s*(?:\([a-z_, ]*\)\s*)?AS\s+(?:MATERIALIZED\s+)?\(").unwrap();
        let made: BTreeSet<&str> = made.captures_iter(&self.text).map(|found| found.extract::<1>().1[0]).collect();
        let named = named.captures_iter(&text).map(|found| found.extract::<1>().1[0]);
        named.filter(|name| !made.contains(name) && !FUNCTIONS.contains(name)).map(str::to_owned).collect()
    }

    fn is_of_a_workspace(&self) -> bool {
        self.tables().iter().any(|table| !GLOBAL.contains(&table.as_str()))
    }

    fn writes(&self) -> bool {
        Regex::new(r"\b(INSERT INTO|UPDATE [a-z_{]+ |DELETE FROM)").unwrap().is_match(&self.text)
    }
}

/// The files whose statements have the condition of a workspace, like the table, only at run time.
const OF_EVERY_TABLE: [&str; 2] = ["operations/moving/tables.rs", "records/statements.rs"];

/// Words after FROM that are not tables.
const FUNCTIONS: [&str; 16] = [
    "unnest",
    "jsonb_populate_recordset",
    "jsonb_to_recordset",
    "pg_stat_activity",
    "pg_stat_replication",
    "pg_stat_user_tables",
    "pg_control_system",
    "pg_class",
    "pg_database",
    "pg_extension",
    "pg_ls_waldir",
    "pg_roles",
    "pg_advisory_unlock_all",
    "generate_series",
    "now",
    "clock_timestamp",
];

#[test]
fn every_statement_names_its_workspace() {
    let names = Regex::new(r"workspace_id (?:=|IN \() ?(?:\$\d|$)|\(workspace_id, ").unwrap();
    let nameless: Vec<_> = statements()
        .into_iter()
        .filter(|statement| statement.is_of_a_workspace() && !statement.crosses_workspaces())
        .filter(|statement| !OF_EVERY_TABLE.contains(&statement.file.as_str()))
        .filter(|statement| statement.has_an_end() && !names.is_match(&statement.text))
        .collect();
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[test]
fn statements_that_cross_workspaces_only_read() {
    let all = statements();
    for part in CROSS_WORKSPACES {
        let found: Vec<_> = all.iter().filter(|statement| statement.text.contains(part)).collect();
        assert!(!found.is_empty(), "no statement has {part}");
        assert!(found.iter().all(|statement| !statement.writes() && !statement.text.contains("FOR ")), "{found:#?}");
    }
}

#[test]
fn no_write_depends_on_what_a_distributed_database_cannot_do() {
    let set = Regex::new(r"\bSET\s[^;]*?[a-z)]\)?\[\d").unwrap();
    // It depends on the time zone of the session.
    let moved = Regex::new(r"[a-z_]+ [-+] (interval|make_interval)").unwrap();
    let moves = Regex::new(r"\bSET\s[^;]*?= [a-z_.]+ [-+] (interval|make_interval)").unwrap();
    for statement in statements().iter().filter(|statement| statement.writes() && statement.is_of_a_workspace()) {
        let text = &statement.text;
        for part in ["now()", "random()", "clock_timestamp()", "current_date"] {
            for place in places(text) {
                assert!(!place.contains(part), "{part} in {place}\n{statement:#?}");
                assert!(!moved.is_match(place), "the time zone decides {place}\n{statement:#?}");
            }
        }
        assert!(!moves.is_match(text), "the time zone decides {statement:#?}");
        assert!(!set.is_match(text), "a subscript in SET\n{statement:#?}");
        // Rows of another part alone would be copied to every node, and the transaction commit on all of them.
        for (begin, _) in text.match_indices("AS (").filter(|(at, _)| text[at + 4..].trim_start().starts_with("INSERT"))
        {
            let part = &text[begin + 4..begin + 4 + enclosed(&text[begin + 4..])];
            assert!(!part.contains("SELECT $1"), "no table of the workspace in {part}\n{statement:#?}");
        }
        assert!(!text.contains("RECURSIVE"), "{statement:#?}");
    }
    let all = Regex::new(r"SELECT \* FROM [a-z{]|RETURNING \*").unwrap();
    let columnless = Regex::new(r"\(\s*SELECT FROM\s+(\w+)").unwrap();
    let correlated = Regex::new(r"[a-z]+\.workspace_id = [a-z]+\.workspace_id").unwrap();
    for statement in statements() {
        // Citus computes a part that it cannot send to one node beforehand, and passes on no rows without columns.
        let crosses = statement.crosses_workspaces() && !correlated.is_match(&statement.text);
        let mut without = columnless.captures_iter(&statement.text);
        assert!(!without.any(|part| crosses || GLOBAL.contains(&&part[1])), "{statement:#?}");
        let Statement { file, text } = statement;
        assert!(!all.is_match(&text), "{file} names no columns: {text}");
        assert!(!text.contains("ctid") || text.contains("workspace_id = $"), "{file}: {text}");
    }
}

/// The parts of a statement that every node must compute identically: CASE, coalesce, RETURNING, DO
/// UPDATE.
fn places(text: &str) -> Vec<&str> {
    let mut places = Vec::new();
    for (begin, _) in text.match_indices("CASE ") {
        places.push(&text[begin..text[begin..].find(" END").map_or(text.len(), |end| begin + end)]);
    }
    for (begin, _) in text.match_indices("coalesce(") {
        places.push(&text[begin..begin + balanced(&text[begin..])]);
    }
    for word in ["RETURNING ", "DO UPDATE "] {
        for (begin, _) in text.match_indices(word) {
            places.push(&text[begin..begin + enclosed(&text[begin..])]);
        }
    }
    places
}

/// The length of a part, up to the parenthesis that closes what it is in.
fn enclosed(part: &str) -> usize {
    let mut depth = 0;
    for (i, byte) in part.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return i,
            b')' => depth -= 1,
            _ => (),
        }
    }
    part.len()
}

/// The length of a call, up to its last parenthesis.
fn balanced(call: &str) -> usize {
    let mut depth = 0;
    for (i, byte) in call.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return i,
            b')' => depth -= 1,
            _ => (),
        }
    }
    call.len()
}

#[tokio::test]
async fn the_database_runs_every_statement() {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let mut refused = Vec::new();
    let whole: Vec<_> = statements().into_iter().filter(Statement::is_whole).collect();
    assert!(whole.len() > 200, "only {} statements were found", whole.len());
    for statement in whole {
        let mut transaction = connection.begin().await.unwrap();
        if let Err(error) = run(&mut transaction, &statement.text).await {
            refused.push((statement, error.to_string()));
        }
        transaction.rollback().await.unwrap();
        sqlx::raw_sql("DEALLOCATE ALL").execute(&mut connection).await.unwrap();
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Runs a statement with some value for each parameter.
async fn run(connection: &mut PgConnection, text: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE statement AS {text}"))).execute(&mut *connection).await?;
    let types: Vec<String> =
        sqlx::query_scalar("SELECT unnest(parameter_types)::text FROM pg_prepared_statements WHERE name = 'statement'")
            // Kept ones would be deallocated with it.
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
    let values: Vec<String> = types.iter().map(|of_type| value(of_type)).collect();
    let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    let execute = format!("EXECUTE statement{values}");
    match sqlx::raw_sql(AssertSqlSafe(execute)).execute(connection).await {
        // The values mean nothing to the statement, or to a constraint.
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23")) =>
        {
            Ok(())
        }
        done => done.map(drop),
    }
}

fn value(of_type: &str) -> String {
    let value = match of_type {
        "uuid" => "0190a0b0-0000-7000-8000-000000000001",
        "json" | "jsonb" => "{}",
        "date" | "timestamp with time zone" => "2030-01-01",
        "boolean" => "true",
        array if array.ends_with("[]") => "{}",
        _ => "1",
    };
    format!("'{value}'::{of_type}")
}

#[tokio::test]
async fn every_table_of_a_workspace_is_keyed_by_it() {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let wrong: Vec<String> = sqlx::query_scalar(
        "WITH tables AS (
             SELECT oid, relname::text AS name, relpersistence FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname::text <> ALL ($1)
         ), first AS (
             SELECT tables.name, keys.indexrelid::regclass::text AS key, keys.indisprimary, columns.attname
             FROM tables JOIN pg_index AS keys ON keys.indrelid = tables.oid AND keys.indisunique
             JOIN pg_attribute AS columns ON columns.attrelid = tables.oid AND columns.attnum = keys.indkey[0]
         )
         SELECT name || ' has no primary key' FROM tables
         WHERE NOT EXISTS (SELECT FROM first WHERE first.name = tables.name AND indisprimary)
         UNION ALL
         SELECT key || ' does not begin with the workspace' FROM first WHERE attname <> 'workspace_id'
         UNION ALL
         SELECT name || ' is not logged' FROM tables WHERE relpersistence <> 'p'
         UNION ALL
         SELECT conname || ' does not begin with the workspace' FROM pg_constraint
         JOIN tables ON tables.oid = conrelid AND contype = 'f' AND confrelid <> 'workspaces'::regclass
         JOIN pg_attribute AS mine ON mine.attrelid = conrelid AND mine.attnum = conkey[1]
         JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = confkey[1]
         WHERE (mine.attname, theirs.attname) <> ('workspace_id', 'workspace_id')
         UNION ALL
         SELECT tgname || ' reads a transition table' FROM pg_trigger WHERE tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL",
    )
    .bind(GLOBAL.map(str::to_owned).to_vec())
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Lists read whole rows beside columns of their own.
#[tokio::test]
async fn no_column_has_a_name_that_lists_use() {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let taken: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name IN ('matches', 'nth')",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(taken.is_empty(), "{taken:?}");
}
