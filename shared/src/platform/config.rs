//! The settings of all programs, in layers: the built-in ones, a file, the environment.
//!
//! `config/default.toml` documents every setting. The other layers are checked against it, so a
//! misspelled setting prevents the start instead of being ignored.

mod layers;
mod mail;
mod network;
mod report;
mod telemetry;
mod warnings;
mod webhooks;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use mail::{Mail, Tls};
pub use network::{Address, Network, Origin, Receiver};
pub use report::{Entry, Fault, Report, Source};
pub use telemetry::Telemetry;
pub use warnings::Warning;
pub use webhooks::Webhooks;

const BUILT_IN: &str = include_str!("../../../config/default.toml");
const PREFIX: &str = "CRM_";
/// Names the settings file; not a setting itself.
const FILE_VARIABLE: &str = "CRM_CONFIG";
/// The variable that hosting platforms set for a database.
const DATABASE_URL: &str = "DATABASE_URL";
const API_ADMIN_PORT: u16 = 9463;
const WORKER_ADMIN_PORT: u16 = 9464;

/// Every setting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The public base URL of the API, which links start with. Never ends with a slash.
    pub public_url: String,
    /// Whether `public_url` was set, so that it is more than a default for this machine.
    #[serde(skip)]
    pub public_url_is_set: bool,
    /// The database.
    pub database: Database,
    /// The API's server.
    pub api: Api,
    /// The admin listener.
    pub admin: Admin,
    /// The console.
    pub console: Console,
    /// Imports.
    pub imports: Imports,
    /// The ledger of jobs.
    pub jobs: Jobs,
    /// The feed of events.
    pub events: Events,
    /// Email and the mail server.
    pub mail: Mail,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// The worker's process.
    pub worker: Worker,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
}

/// How to reach the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:5432/name`
    pub url: Secret,
    /// The most connections of one process.
    pub max_connections: u32,
    /// How long to wait for a free connection.
    pub acquire_timeout_s: u64,
    /// Whether connections go through a pooler, so that statements cannot be cancelled.
    pub pooler: bool,
}

/// The API's server and its limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address to serve on.
    pub listen: SocketAddr,
    /// How long to retry while the port is taken.
    pub bind_timeout_s: u64,
    /// The most open connections.
    pub max_connections: usize,
    /// The most open connections from one address; 0 means a quarter of `max_connections`.
    pub max_connections_per_address: usize,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` are trusted.
    pub trusted_proxies: Vec<Network>,
    /// The origins of web pages that may call the API from a browser.
    pub cors_origins: Vec<Origin>,
    /// How long the headers of a request may take.
    pub header_timeout_s: u64,
    /// How long a request may take that is neither an upload nor a stream.
    pub request_timeout_s: u64,
    /// How long a client may send no byte of a body.
    pub upload_idle_timeout_s: u64,
    /// The lowest rate at which a body may arrive; 0 means any.
    pub min_body_bytes_per_s: u32,
    /// The seconds over which that rate is averaged.
    pub body_window_s: u64,
    /// How long a client may read no byte of its response.
    pub write_timeout_s: u64,
    /// The largest body of a request that is not an upload.
    pub max_body_bytes: usize,
    /// The largest body of a batch.
    pub max_batch_bytes: usize,
    /// The requests per minute of each API key; 0 means no limit.
    pub rate_limit_per_minute: u32,
    /// The most requests that an API key can send at once.
    pub rate_limit_burst: u32,
    /// The rejected keys per minute from one address, after which they get 429; 0 means no limit.
    pub rejected_keys_per_minute: u32,
    /// The requests per second from one address that need no key; 0 means no limit.
    pub open_requests_per_second: u32,
    /// How long open requests may take to finish during a shutdown.
    pub shutdown_s: u64,
}

/// The listener for metrics and readiness.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The address; each program has its own default.
    pub listen: Address,
}

/// The pages for people.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Whether crm-api serves them.
    pub enabled: bool,
}

/// Limits of imports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imports {
    /// The largest file.
    pub max_bytes: u64,
    /// How many bytes the uploads of all workspaces that wait to be imported may have together.
    pub max_stored_bytes: u64,
    /// The directory for temporary files; empty means that of the system.
    pub temp_dir: String,
}

/// The ledger of jobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// How many days finished jobs are retained.
    pub keep_days: u32,
}

/// The feed of events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How many days the feed has events.
    pub keep_days: u32,
}

/// The worker's process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The admin listener of workers; overrides `admin.listen`.
    pub listen: Address,
    /// The queues to work on; empty means all.
    pub queues: Vec<String>,
    /// The jobs of each queue that run at once.
    pub concurrency: usize,
    /// Whether this process starts scheduled runs.
    pub schedule: bool,
    /// How long running jobs may take to release their leases during a shutdown.
    pub shutdown_s: u64,
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The format of log lines.
    pub format: LogFormat,
    /// A level, or a filter in the syntax of `tracing`.
    pub level: String,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        match word.as_str() {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("it must be auto, json or text"),
        }
    }
}

/// A setting that never appears in logs: it dereferences to a string, but `Debug` hides it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why the settings are unusable: a sentence for each fault, with the setting's name and its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// Reads the settings from the file, if one is named here or by `CRM_CONFIG`, and from the
    /// environment of the process.
    ///
    /// # Errors
    /// [`SettingsError`] for a setting that is unknown, invalid or missing, and for an unreadable file.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Report::load(file).into_settings()
    }

    /// Reads the settings as [`Settings::load`] does, but from the given environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_layers(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        Report::from_layers(file, environment).into_settings()
    }

    /// The public base URL, if it was set.
    #[must_use]
    pub fn own_url(&self) -> Option<&str> {
        self.public_url_is_set.then_some(self.public_url.as_str())
    }

    /// The address of the admin listener of `crm-api`.
    #[must_use]
    pub fn api_admin(&self) -> SocketAddr {
        self.admin.listen.get().unwrap_or((Ipv4Addr::LOCALHOST, API_ADMIN_PORT).into())
    }

    /// The address of the admin listener of `crm-worker`.
    #[must_use]
    pub fn worker_admin(&self) -> SocketAddr {
        let set = self.worker.listen.get().or(self.admin.listen.get());
        set.unwrap_or((Ipv4Addr::LOCALHOST, WORKER_ADMIN_PORT).into())
    }

    /// Checks what the types cannot express: settings, and what is wrong with them.
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, key, what: &str| {
            if !holds {
                faults.push((key, what.to_owned()));
            }
        };
        let web = self.public_url.strip_prefix("http://").or(self.public_url.strip_prefix("https://"));
        must(web.is_some_and(|rest| !rest.is_empty()), "public_url", "it must start with http:// or https://");
        let (url, schemes) = (&self.database.url, ["postgres://", "postgresql://"]);
        must(!url.is_empty(), "database.url", "it is not set; set DATABASE_URL");
        let is_postgres = url.is_empty() || schemes.iter().any(|scheme| url.starts_with(scheme));
        must(is_postgres, "database.url", "it must start with postgres://");
        let at_least_one = [
            ("database.max_connections", u64::from(self.database.max_connections)),
            ("database.acquire_timeout_s", self.database.acquire_timeout_s),
            ("api.bind_timeout_s", self.api.bind_timeout_s),
            ("api.rate_limit_burst", u64::from(self.api.rate_limit_burst)),
            ("api.max_connections", self.api.max_connections as u64),
            ("api.body_window_s", self.api.body_window_s),
            ("api.write_timeout_s", self.api.write_timeout_s),
            ("api.header_timeout_s", self.api.header_timeout_s),
            ("api.request_timeout_s", self.api.request_timeout_s),
            ("api.upload_idle_timeout_s", self.api.upload_idle_timeout_s),
            ("api.max_body_bytes", self.api.max_body_bytes as u64),
            ("api.max_batch_bytes", self.api.max_batch_bytes as u64),
            ("imports.max_bytes", self.imports.max_bytes),
            ("imports.max_stored_bytes", self.imports.max_stored_bytes),
            ("jobs.keep_days", u64::from(self.jobs.keep_days)),
            ("events.keep_days", u64::from(self.events.keep_days)),
            ("mail.connections", self.mail.connections as u64),
            ("mail.give_up_after_hours", u64::from(self.mail.give_up_after_hours)),
            ("worker.concurrency", self.worker.concurrency as u64),
        ];
        for (key, number) in at_least_one {
            must(number >= 1, key, "it must be at least 1");
        }
        let level = "it must be a level such as info, or levels of modules such as info,sqlx=debug";
        must(are_levels(&self.log.level), "log.level", level);
        faults.extend(self.mail.check());
        faults.extend(self.webhooks.check());
        faults.extend(self.telemetry.check());
        faults
    }
}

/// Whether a text is a level, or levels of modules. A word that is no level would be the name of a module, with all its
/// lines.
fn are_levels(text: &str) -> bool {
    let levels = text.split(',').map(|part| part.rsplit_once('=').map_or(part, |(_, level)| level).trim());
    text.parse::<Targets>().is_ok() && { levels }.all(|level| !level.is_empty() && level.parse::<LevelFilter>().is_ok())
}

#[cfg(test)]
mod tests;
