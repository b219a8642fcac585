//! A separate API for each test, and the requests that tests share.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api::AppState;
use api::http::server;
use chrono::{DateTime, Utc};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use shared::accounts::Key;
use shared::accounts::api_keys::{self, ApiKey, NewKey};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::platform::config::Settings;
use shared::platform::listen::AdminPort;
use sqlx::{Connection, PgConnection};
use testing::Database;
use testing::serving::ANY_PORT;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// An API with its own database, a workspace and a key.
pub struct Api {
    pub database: Database,
    pub address: SocketAddr,
    /// The address for operators.
    pub admin: SocketAddr,
    pub workspace_id: Uuid,
    pub key: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Api {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let database = Database::create().await;
        workspaces::create(&mut connect(database.url()).await, "acme").await.unwrap();
        Self::over(database, change).await
    }

    /// An API over a database that has the workspace `acme`.
    pub async fn over(database: Database, change: impl FnOnce(&mut Settings)) -> Self {
        database.must_finish_jobs();
        let mut connection = connect(database.url()).await;
        let workspace = workspaces::get(&mut connection, "acme").await.unwrap();
        let (key, _) = new_key(&mut connection, workspace.id, "test", Scopes::ALL, None).await;
        let mut settings = settings(database.url());
        change(&mut settings);
        let Served { address, admin, stop, served } = serve(settings).await;
        let key = key.reveal().to_owned();
        Self {
            database,
            address,
            admin,
            workspace_id: workspace.id,
            key,
            client: Client::new(),
            stop: Some(stop),
            served,
        }
    }

    /// The same API with a key of another, new workspace.
    pub async fn on(mut self, workspace: &str) -> Self {
        let mut connection = self.connection().await;
        let workspace = workspaces::create(&mut connection, workspace).await.unwrap();
        let (key, _) = new_key(&mut connection, workspace.id, "test", Scopes::ALL, None).await;
        self.workspace_id = workspace.id;
        self.key = key.reveal().to_owned();
        self
    }

    /// Allows the test to end while jobs of this kind are queued or running; otherwise it fails.
    pub fn leaves_jobs(&self, kind: &str) {
        self.database.may_leave_jobs(kind);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(&self.key)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// The raw head of a request with the key, for requests that no client sends.
    pub fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n{headers}\r\n", self.key)
    }

    pub async fn connection(&self) -> PgConnection {
        connect(self.database.url()).await
    }

    pub async fn new_key(&self, expires_at: Option<DateTime<Utc>>) -> (String, ApiKey) {
        let mut connection = self.connection().await;
        let (key, stored) = new_key(&mut connection, self.workspace_id, "another", Scopes::ALL, expires_at).await;
        (key.reveal().to_owned(), stored)
    }

    /// A key that may do only this, such as `records:read,exports`.
    pub async fn scoped_key(&self, scopes: &str) -> String {
        let scopes = scopes.parse().unwrap();
        new_key(&mut self.connection().await, self.workspace_id, "scoped", scopes, None).await.0.reveal().to_owned()
    }

    /// A request with another key.
    pub fn request_with(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(key)
    }

    /// Uploads a file and returns the response with its job.
    pub async fn import(&self, csv: &'static str) -> Value {
        let file = reqwest::multipart::Part::text(csv).file_name("leads.csv");
        let form = reqwest::multipart::Form::new().part("file", file);
        json(self.post("/dev/crm/leads/import").multipart(form), 202).await
    }

    /// Signals the server to stop, without waiting for it.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server and waits until it has stopped.
    pub async fn stopped(mut self) -> Database {
        self.stop();
        self.served.await.unwrap().unwrap();
        self.database
    }
}

/// Creates a key of a workspace.
pub async fn new_key(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    name: &str,
    scopes: Scopes,
    expires_at: Option<DateTime<Utc>>,
) -> (Key, ApiKey) {
    let new = NewKey::of(name, scopes, expires_at).unwrap();
    api_keys::create(connection, workspace_id, &new).await.unwrap()
}

/// The default settings, without rate limits.
pub fn settings(database_url: &str) -> Settings {
    let database = ("DATABASE_URL", database_url);
    let set = ANY_PORT.into_iter().chain([database]).map(|(name, value)| (name.to_owned(), value.to_owned()));
    Settings::from_layers(None, set).unwrap()
}

/// A server without a database of its own.
pub struct Served {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub served: JoinHandle<anyhow::Result<()>>,
}

/// Serves on free ports.
pub async fn serve(settings: Settings) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, admin_address) = (listener.local_addr().unwrap(), admin.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let told_to_stop = async move { drop(stopped.await) };
    let state = AppState::new(settings).unwrap();
    let served = tokio::spawn(server::serve(state, listener, AdminPort::Bound(admin), told_to_stop));
    Served { address, admin: admin_address, stop, served }
}

pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Sends a request, expects the status and returns the JSON.
pub async fn json(request: RequestBuilder, status: u16) -> Value {
    body(request.send().await.unwrap(), status).await
}

/// Expects the status and returns the JSON.
pub async fn body(response: Response, status: u16) -> Value {
    let given = response.status();
    let kind = response.headers().get("content-type").cloned();
    let text = response.text().await.unwrap();
    assert_eq!(given, status, "{text}");
    assert_eq!(kind.unwrap(), "application/json", "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The `field` and `code` of every error in a 400.
pub fn faults(answer: &Value) -> Vec<(&str, &str)> {
    assert_eq!(answer["message"], "Invalid request parameters");
    let errors = answer["errors"].as_array().unwrap();
    errors.iter().map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
}

/// Repeats a request until the response has the status, and returns how long that took.
pub async fn until(status: u16, request: impl Fn() -> RequestBuilder) -> Duration {
    let begun = Instant::now();
    while request().send().await.unwrap().status() != status {
        assert!(begun.elapsed() < Duration::from_secs(20), "no response had status {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

impl Api {
    /// Sends JSON, expects the status and returns the JSON.
    pub async fn send(&self, method: Method, path: &str, body: Value, status: u16) -> Value {
        json(self.request(method, path).json(&body), status).await
    }

    /// Creates a record.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, body, 201).await
    }

    /// Reads JSON.
    pub async fn read(&self, path: &str) -> Value {
        json(self.get(path), 200).await
    }

    /// Reads a report of the present data. A report that took long to compute is otherwise returned again
    /// for a minute.
    pub async fn report(&self, path: &str) -> Value {
        sqlx::query("DELETE FROM reports").execute(self.database.pool()).await.unwrap();
        self.read(path).await
    }

    /// Deletes, and expects the status.
    pub async fn delete(&self, path: &str, status: u16) {
        let answer = self.request(Method::DELETE, path).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }

    /// Uploads a file of records to the import of their kind, and returns the job when it has ended.
    pub async fn imported(&self, path: &str, file: impl Into<Vec<u8>>) -> Value {
        let file = reqwest::multipart::Part::bytes(file.into()).file_name("file.csv");
        let form = reqwest::multipart::Form::new().part("file", file);
        let job = json(self.post(path).multipart(form), 202).await;
        self.ended(&job).await
    }

    /// Follows a job's events until it has ended.
    pub async fn ended(&self, job: &Value) -> Value {
        let path = format!("/dev/crm/jobs/{}", id(job));
        // The stream of events ends with the job.
        self.get(&format!("{path}/events")).send().await.unwrap().text().await.unwrap();
        self.read(&path).await
    }
}

/// The id of a record.
pub fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

/// A field of each record.
pub fn each<'a>(records: &'a Value, field: &str) -> Vec<&'a str> {
    records.as_array().unwrap().iter().map(|record| record[field].as_str().unwrap()).collect()
}
