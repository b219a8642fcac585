//! The programs with a database of their own for each story, and its visitors.

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use shared::operations::operators;
use testing::browser::{Browser, Look, Page};
use testing::{Database, Process};

/// Running programs with the workspace `acme`, and a browser.
pub struct Crm {
    browser: &'static Browser,
    /// Ends before the API and the database.
    _worker: Option<Process>,
    api: Process,
    /// A key of the workspace that may do everything.
    pub key: String,
    client: Client,
    pub database: Database,
}

impl Crm {
    /// The API alone; none without Chromium.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The API with settings, such as `("CRM_PUBLIC_URL", "https://crm.example.com")`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        let browser = Browser::shared().await?;
        let database = Database::create().await;
        database.must_finish_jobs();
        let key = database.key("acme").await;
        let api = Process::api_with(&database, settings).await;
        Some(Self { browser, _worker: None, api, key, client: Client::new(), database })
    }

    /// The API, and a worker that runs jobs and writes emails but does not send them.
    pub async fn working() -> Option<Self> {
        let crm = Self::start().await?;
        let worker = Process::worker(&crm.database, &[]);
        Some(Self { _worker: Some(worker), ..crm })
    }

    /// Allows the story to end while jobs of this kind are queued or running; otherwise it fails.
    pub fn leaves_jobs(&self, kind: &str) {
        self.database.may_leave_jobs(kind);
    }
}

/// Visitors.
impl Crm {
    /// Somebody who has not signed in.
    pub async fn visitor(&self, look: Look) -> Page {
        self.browser.visit(&self.api.url, look).await
    }

    /// Somebody who has signed in with a key that may do this, such as `records:read,exports` or `*`.
    pub async fn signed_in_as(&self, scopes: &str) -> Page {
        self.signed_in(scopes, Look::default()).await
    }

    /// As [`Self::signed_in_as`], with a look.
    pub async fn signed_in(&self, scopes: &str, look: Look) -> Page {
        let page = self.visitor(look).await;
        sign_in(&page, &self.scoped_key(scopes).await).await;
        page
    }

    /// Another key of the workspace, with these scopes.
    pub async fn scoped_key(&self, scopes: &str) -> String {
        let scopes: Vec<&str> = scopes.split(',').collect();
        let issued = self.create("/dev/crm/keys", json!({ "name": "story", "scopes": scopes })).await;
        issued["key"].as_str().unwrap().to_owned()
    }
}

/// Operators.
impl Crm {
    /// Somebody who has signed in on the admin port with the key of a new operator.
    pub async fn operator(&self, look: Look) -> Page {
        let (key, _) =
            operators::create(&mut self.database.pool().acquire().await.unwrap(), "ada", None).await.unwrap();
        let page = self.browser.visit(&self.api.admin_url().await, look).await;
        page.open("/console").await;
        page.accessible().await;
        page.fill("Operator key", key.reveal()).await;
        page.click("Sign in").await;
        page.see("Sign out").await;
        page
    }
}

/// Signs in on the page for it.
pub async fn sign_in(page: &Page, key: &str) {
    page.open("/console").await;
    page.fill("API key", key).await;
    page.click("Sign in").await;
    page.see("Sign out").await;
}

/// The API, for what a story needs before it begins and checks after it.
impl Crm {
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api.url)).bearer_auth(&self.key)
    }

    /// Sends JSON, expects the status and returns the JSON.
    pub async fn send(&self, method: Method, path: &str, body: Value, status: u16) -> Value {
        answer(self.request(method, path).json(&body), status).await
    }

    /// Creates a record.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, body, 201).await
    }

    /// Reads JSON.
    pub async fn read(&self, path: &str) -> Value {
        answer(self.request(Method::GET, path), 200).await
    }

    /// Starts a job and returns it when it has ended.
    pub async fn run(&self, path: &str) -> Value {
        let job = answer(self.request(Method::POST, path), 202).await;
        self.ended(&job).await
    }

    /// Follows a job until it has ended.
    pub async fn ended(&self, job: &Value) -> Value {
        let path = format!("/dev/crm/jobs/{}", id(job));
        // The stream of events ends with the job.
        self.request(Method::GET, &format!("{path}/events")).send().await.unwrap().text().await.unwrap();
        self.read(&path).await
    }
}

/// Sends a request, expects the status and returns the JSON.
async fn answer(request: RequestBuilder, status: u16) -> Value {
    let response = request.send().await.unwrap();
    let given = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(given, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The id of a record.
pub fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}
