//! The settings of all programs, in layers: the built-in ones, a file, the environment.
//!
//! `config/default.toml` documents every setting. The other layers are checked against it, so a
//! misspelled setting prevents the start instead of being ignored.

mod layers;
mod mail;
mod network;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use config::{File, FileFormat};
use serde::Deserialize;

use layers::Layer;

pub use mail::{Mail, Tls};
pub use network::{Address, Network, Origin};

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
    /// Imports.
    pub imports: Imports,
    /// The ledger of jobs.
    pub jobs: Jobs,
    /// Email and the mail server.
    pub mail: Mail,
    /// The worker's process.
    pub worker: Worker,
    /// Logs.
    pub log: Log,
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
    /// The proxies whose `X-Forwarded-For` is trusted.
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

/// Limits of imports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imports {
    /// The largest file.
    pub max_bytes: u64,
}

/// The ledger of jobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// How many days finished jobs are retained.
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

/// Why the settings are unusable: one sentence with the setting's name and its source.
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
        // Variables that are not Unicode are ignored.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_layers(file, environment)
    }

    /// Reads the settings as [`Settings::load`] does, but from the given environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_layers(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let built_in = Layer::of(File::from_str(BUILT_IN, FileFormat::Toml), layers::BUILT_IN)?;
        let mut settings = built_in.clone();
        let file = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        if let Some(path) = file {
            let from = path.display().to_string();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| SettingsError(format!("the settings file {from} cannot be read: {error}")))?;
            settings.put_over(Layer::of(File::from_str(&text, FileFormat::Toml), &from)?)?;
        }
        settings.put_over(Layer::of_environment(&environment, &built_in)?)?;
        settings.read()
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

    /// Checks what the types cannot express.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let must = |holds: bool, key, what: &str| if holds { Ok(()) } else { Err((key, what.to_owned())) };
        let web = self.public_url.strip_prefix("http://").or(self.public_url.strip_prefix("https://"));
        must(web.is_some_and(|rest| !rest.is_empty()), "public_url", "it must start with http:// or https://")?;
        must(!self.database.url.is_empty(), "database.url", "it is not set; set DATABASE_URL")?;
        let postgres = ["postgres://", "postgresql://"].iter().any(|scheme| self.database.url.starts_with(scheme));
        must(postgres, "database.url", "it must start with postgres://")?;
        let at_least_one = [
            ("database.max_connections", u64::from(self.database.max_connections)),
            ("database.acquire_timeout_s", self.database.acquire_timeout_s),
            ("api.bind_timeout_s", self.api.bind_timeout_s),
            ("api.max_connections", self.api.max_connections as u64),
            ("api.body_window_s", self.api.body_window_s),
            ("api.write_timeout_s", self.api.write_timeout_s),
            ("api.header_timeout_s", self.api.header_timeout_s),
            ("api.request_timeout_s", self.api.request_timeout_s),
            ("api.upload_idle_timeout_s", self.api.upload_idle_timeout_s),
            ("api.max_body_bytes", self.api.max_body_bytes as u64),
            ("api.max_batch_bytes", self.api.max_batch_bytes as u64),
            ("imports.max_bytes", self.imports.max_bytes),
            ("jobs.keep_days", u64::from(self.jobs.keep_days)),
            ("mail.connections", self.mail.connections as u64),
            ("mail.give_up_after_hours", u64::from(self.mail.give_up_after_hours)),
            ("worker.concurrency", self.worker.concurrency as u64),
        ];
        for (key, number) in at_least_one {
            must(number >= 1, key, "it must be at least 1")?;
        }
        self.mail.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("DATABASE_URL", "postgres://crm:hidden@localhost/crm");

    fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let path = file.map(write);
        let settings = Settings::from_layers(path.as_deref(), environment).map_err(|error| error.to_string());
        if let Some(path) = path {
            std::fs::remove_file(path).unwrap();
        }
        settings
    }

    fn write(text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("crm-{}.toml", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn the_built_in_settings_need_nothing_but_a_database() {
        let settings = load(None, &[URL]).unwrap();
        assert_eq!((settings.public_url.as_str(), settings.own_url()), ("http://localhost:3000", None));
        assert_eq!(settings.imports.max_bytes, 10 * 1024 * 1024 * 1024);
        assert_eq!(&*settings.database.url, URL.1);
        assert_eq!(
            load(None, &[]).unwrap_err(),
            "the setting database.url from the built-in settings is wrong: it is not set; set DATABASE_URL"
        );
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_built_in() {
        let file = "public_url = 'https://crm.example/'\n[worker]\nqueues = ['imports']\nconcurrency = 2\n";
        let settings = load(Some(file), &[URL, ("CRM_WORKER__CONCURRENCY", "8"), ("PATH", "/bin")]).unwrap();
        assert_eq!(settings.own_url(), Some("https://crm.example"));
        assert_eq!(settings.worker.queues, ["imports"]);
        assert_eq!(settings.worker.concurrency, 8);
        assert_eq!(settings.worker.shutdown_s, 25);
    }

    #[test]
    fn a_public_url_that_was_set_to_its_default_counts() {
        let settings = load(None, &[URL, ("CRM_PUBLIC_URL", "http://localhost:3000")]).unwrap();
        assert_eq!(settings.own_url(), Some("http://localhost:3000"));
    }

    #[test]
    fn a_variable_can_name_the_file() {
        let path = write("[jobs]\nkeep_days = 7\n");
        let settings = load(None, &[URL, ("CRM_CONFIG", path.to_str().unwrap())]).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(settings.jobs.keep_days, 7);
        let missing = load(None, &[URL, ("CRM_CONFIG", "/nowhere/crm.toml")]).unwrap_err();
        assert!(missing.starts_with("the settings file /nowhere/crm.toml cannot be read: "), "{missing}");
    }

    #[test]
    fn a_prefixed_variable_wins_over_the_common_one_and_lists_are_separated_by_commas() {
        let environment =
            [("CRM_DATABASE__URL", "postgres://ours/crm"), URL, ("CRM_WORKER__QUEUES", "imports, imports")];
        let settings = load(None, &environment).unwrap();
        assert_eq!(&*settings.database.url, "postgres://ours/crm");
        assert_eq!(settings.worker.queues, ["imports", "imports"]);
        assert!(load(None, &[URL, ("CRM_WORKER__QUEUES", "")]).unwrap().worker.queues.is_empty());
    }

    #[test]
    fn a_secret_is_read_from_a_file_and_never_shown() {
        let path = write("postgres://crm:hidden@localhost/crm\n");
        let settings = load(None, &[("DATABASE_URL_FILE", path.to_str().unwrap())]).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(&*settings.database.url, URL.1);
        assert!(!format!("{settings:?}").contains("hidden"));
        let missing = load(None, &[("CRM_DATABASE__URL_FILE", "/nowhere")]).unwrap_err();
        assert!(
            missing.starts_with("the file /nowhere that CRM_DATABASE__URL_FILE names cannot be read: "),
            "{missing}"
        );
    }

    #[test]
    fn a_password_leaves_the_machine_only_encrypted() {
        let mail = |host, tls| {
            let mail = [("CRM_MAIL__HOST", host), ("CRM_MAIL__TLS", tls), ("CRM_MAIL__USER", "crm")];
            load(None, &[URL, mail[0], mail[1], mail[2]])
        };
        assert!(mail("smtp.example", "none").unwrap_err().contains("mail.tls"));
        assert_eq!(mail("smtp.example", "starttls").unwrap().mail.port(), 587);
        assert_eq!(mail("127.0.0.1", "none").unwrap().mail.port(), 25);
    }

    #[test]
    fn each_program_answers_its_operators_at_a_port_of_its_own() {
        let ports = |environment: &[(&str, &str)]| {
            let settings = load(None, &[&[URL], environment].concat()).unwrap();
            (settings.api_admin().to_string(), settings.worker_admin().to_string())
        };
        let both = |api: &str, worker: &str| (api.to_owned(), worker.to_owned());
        let (admin, worker) = (("CRM_ADMIN__LISTEN", "10.0.0.1:1"), ("CRM_WORKER__LISTEN", "[::1]:2"));
        assert_eq!(ports(&[]), both("127.0.0.1:9463", "127.0.0.1:9464"));
        assert_eq!(ports(&[admin]), both("10.0.0.1:1", "10.0.0.1:1"));
        assert_eq!(ports(&[worker]), both("127.0.0.1:9463", "[::1]:2"));
        assert_eq!(ports(&[admin, worker]), both("10.0.0.1:1", "[::1]:2"));
    }

    #[test]
    fn trusted_proxies_are_addresses_and_networks() {
        let proxies = |text| load(None, &[URL, ("CRM_API__TRUSTED_PROXIES", text)]).map(|it| it.api.trusted_proxies);
        let trusted = proxies("10.0.0.0/8, 192.0.2.7,2001:db8::/32").unwrap();
        let trusts = |address: &str| trusted.iter().any(|network| network.contains(address.parse().unwrap()));
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "2001:db8::1"] {
            assert!(trusts(address), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.8", "::1"] {
            assert!(!trusts(address), "{address}");
        }
        assert!(proxies("").unwrap().is_empty());
        assert_eq!(
            proxies("10.0.0.0/33").unwrap_err(),
            "the setting api.trusted_proxies from the environment variable CRM_API__TRUSTED_PROXIES is wrong: \
             it must be addresses or networks such as 10.0.0.0/8"
        );
    }

    #[test]
    fn cors_origins_are_written_as_browsers_send_them() {
        let origins = |text| load(None, &[URL, ("CRM_API__CORS_ORIGINS", text)]).map(|it| it.api.cors_origins);
        let allowed = origins("https://App.example.com, http://localhost:5173").unwrap();
        let allows = |origin: &str| allowed.iter().any(|allowed| allowed.allows(origin.as_bytes()));
        assert!(allows("https://app.example.com") && allows("http://localhost:5173"));
        for other in ["http://app.example.com", "https://example.com", "https://app.example.com:444", "null", "*", ""] {
            assert!(!allows(other), "{other}");
        }
        assert!(origins("*").unwrap()[0].allows(b"https://any.example"));
        for wrong in ["app.example.com", "https://app.example.com/", "https://", "https://a b", "null", "ftp://a"] {
            let error = origins(wrong).unwrap_err();
            assert!(error.ends_with("it must be origins such as https://app.example.com, or *"), "{wrong}: {error}");
        }
        assert!(origins("").unwrap().is_empty());
    }

    #[test]
    fn an_unknown_setting_is_reported_with_its_source() {
        let unknown = |file, variable| load(file, &[URL, variable]).unwrap_err();
        assert_eq!(
            unknown(None, ("CRM_API__LISTNE", "x")),
            "unknown setting api.listne in the environment variable CRM_API__LISTNE"
        );
        let in_file = unknown(Some("[api]\nport = 3\n"), ("HOME", "/"));
        assert!(in_file.starts_with("unknown setting api.port in /") && in_file.ends_with(".toml"), "{in_file}");
    }

    #[test]
    fn an_invalid_setting_is_reported_with_its_source_and_the_reason() {
        let wrong = |name, value| load(None, &[URL, (name, value)]).unwrap_err();
        for (name, value, sentence) in [
            (
                "CRM_API__LISTEN",
                "here",
                "the setting api.listen from the environment variable CRM_API__LISTEN is wrong: invalid socket address syntax",
            ),
            (
                "CRM_ADMIN__LISTEN",
                "9463",
                "the setting admin.listen from the environment variable CRM_ADMIN__LISTEN is wrong: it must be an address and a port such as 127.0.0.1:9463",
            ),
            (
                "CRM_API__WRITE_TIMEOUT_S",
                "0",
                "the setting api.write_timeout_s from the environment variable CRM_API__WRITE_TIMEOUT_S is wrong: it must be at least 1",
            ),
            (
                "CRM_WORKER__CONCURRENCY",
                "many",
                "the setting worker.concurrency from the environment variable CRM_WORKER__CONCURRENCY is wrong: it must be an integer, not string \"many\"",
            ),
            (
                "CRM_WORKER__CONCURRENCY",
                "0",
                "the setting worker.concurrency from the environment variable CRM_WORKER__CONCURRENCY is wrong: it must be at least 1",
            ),
            (
                "CRM_PUBLIC_URL",
                "crm.example",
                "the setting public_url from the environment variable CRM_PUBLIC_URL is wrong: it must start with http:// or https://",
            ),
            (
                "CRM_LOG__FORMAT",
                "xml",
                "the setting log.format from the environment variable CRM_LOG__FORMAT is wrong: it must be auto, json or text",
            ),
            (
                "CRM_MAIL__TLS",
                "ssl",
                "the setting mail.tls from the environment variable CRM_MAIL__TLS is wrong: it must be none, starttls or tls",
            ),
            (
                "CRM_MAIL__FROM_EMAIL",
                "crm",
                "the setting mail.from_email from the environment variable CRM_MAIL__FROM_EMAIL is wrong: it must be an email address such as name@example.com",
            ),
        ] {
            assert_eq!(wrong(name, value), sentence);
        }
        let torn = load(Some("[database]\nurl = 'postgres://crm:hidden@localhost\n"), &[]).unwrap_err();
        assert!(torn.contains("cannot be read: TOML parse error at line 2") && !torn.contains("hidden"), "{torn}");
    }
}
