//! Operators see and steer the work of all workspaces: with commands, and over the operator API on the admin port.

mod console;
mod crashes;
mod emails;
mod jobs;
mod keys;
mod lists;
mod pausing;

use std::process::Output;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use shared::accounts::workspaces;
use testing::Database;
use uuid::Uuid;

use crate::cli::program;
use crate::support::{self, Api};

/// An API, and the key of an operator.
pub struct Operations {
    pub api: Api,
    pub key: String,
}

impl Operations {
    pub async fn start() -> Self {
        let api = Api::start().await;
        api.leaves_jobs("clean_up");
        let key = run(&api.database, &["operators", "create", "ada"]).await;
        let key = String::from_utf8(key.stdout).unwrap().trim().to_owned();
        Self { api, key }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/operator{path}", self.api.admin);
        Client::new().request(method, url).bearer_auth(&self.key)
    }

    /// What a list or a record shows.
    pub async fn read(&self, path: &str) -> Value {
        support::json(self.request(Method::GET, path), 200).await["data"].take()
    }

    /// The answer to an action.
    pub async fn send(&self, path: &str, body: Value, status: u16) -> Value {
        support::json(self.request(Method::POST, path).json(&body), status).await
    }

    /// The action that a request did.
    pub async fn act(&self, path: &str, body: Value) -> Value {
        self.send(path, body, 200).await["data"].take()
    }

    /// The output of a command.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&self.api.database, arguments).await
    }

    /// What a command prints, which must succeed.
    pub async fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?} {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command prints as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.print(&arguments).await).unwrap()
    }

    /// The error of a command, which must fail.
    pub async fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }

    /// Creates another workspace.
    pub async fn workspace(&self, name: &str) -> Uuid {
        workspaces::create(&mut self.api.connection().await, name).await.unwrap().id
    }

    /// Stores jobs, and returns their ids.
    pub async fn jobs(&self, workspace_id: Uuid, count: usize, status: &str, error: Option<&str>) -> Vec<Uuid> {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        sqlx::query(
            "INSERT INTO jobs (workspace_id, id, queue, kind, payload, status, error, started_at, finished_at, lease_until)
             SELECT $1, id, 'workflows', 'clean_up', '{}', $3, $4, now(),
                 CASE WHEN $3 IN ('succeeded', 'failed', 'cancelled') THEN now() END,
                 CASE WHEN $3 = 'running' THEN now() + interval '1 hour' END
             FROM unnest($2::uuid[]) AS new (id)",
        )
        .bind(workspace_id)
        .bind(&ids)
        .bind(status)
        .bind(error)
        .execute(self.api.database.pool())
        .await
        .unwrap();
        ids
    }

    /// The status of a job.
    pub async fn status(&self, id: Uuid) -> String {
        let status = sqlx::query_scalar("SELECT status FROM jobs WHERE id = $1").bind(id);
        status.fetch_one(self.api.database.pool()).await.unwrap()
    }

    /// How many jobs of a workspace have this status.
    pub async fn count(&self, workspace_id: Uuid, status: &str) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE workspace_id = $1 AND status = $2");
        count.bind(workspace_id).bind(status).fetch_one(self.api.database.pool()).await.unwrap()
    }

    /// The newest action in the audit.
    pub async fn last_action(&self) -> Value {
        self.read("/actions?limit=1").await[0].take()
    }
}

async fn run(database: &Database, arguments: &[&str]) -> Output {
    program(database, arguments).output().await.unwrap()
}

/// The ids of what a list shows.
pub fn ids(listed: &Value) -> Vec<Uuid> {
    listed.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// The ids, the newest first.
pub fn newest(ids: &[&[Uuid]]) -> Vec<Uuid> {
    let mut all: Vec<Uuid> = ids.concat();
    all.sort_unstable_by(|one, other| other.cmp(one));
    all
}

/// A filter and the expected number.
pub fn matching(filter: Value, expect: i64) -> Value {
    json!({ "filter": filter, "expect": expect })
}
