//! A database for each test.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use shared::accounts::api_keys::{self, NewKey};
use shared::accounts::scopes::Scopes;
use shared::accounts::workspaces;
use shared::platform::config::Settings;
use shared::platform::db;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::citus;
use crate::left_jobs::LeftJobs;
use crate::postgres::Cluster;

/// Whoever makes a template holds this advisory lock; the number is our own choice.
const TEMPLATE_LOCK: i64 = 0x6372_6d20_7465_7374;
/// How long the end of a test waits until its database is dropped; that goes on without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The end of the statement by which this process creates databases.
static COPY: OnceCell<String> = OnceCell::const_new();

/// A migrated, empty database on the server at `DATABASE_URL`, deleted when this value is dropped.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
    url: String,
    pool: PgPool,
    /// Whether it is deleted when this value is dropped.
    is_own: bool,
    pub(crate) jobs: Arc<LeftJobs>,
}

impl Database {
    /// Makes a database: a copy of one that was migrated once, which takes a fraction of the time.
    ///
    /// # Panics
    /// If there is no server.
    pub async fn create() -> Self {
        let server = std::env::var("DATABASE_URL")
            .expect("DATABASE_URL must name a PostgreSQL server: run the tests through `cargo dev test`");
        let options: PgConnectOptions = server.parse().expect("DATABASE_URL must be a URL of PostgreSQL");
        let mut connection = options.connect().await.expect("the server at DATABASE_URL must be reachable");
        let copy = COPY.get_or_init(|| copy(&options, &mut connection)).await;
        connection.close().await.expect("the connection closes");
        Self::create_with(server, copy).await.expect("a database can be created")
    }

    /// Makes a database without any schema.
    ///
    /// # Panics
    /// If there is no server.
    pub async fn empty() -> Self {
        let server = std::env::var("DATABASE_URL").expect("DATABASE_URL must name a PostgreSQL server");
        Self::create_with(server, "TEMPLATE template0").await.expect("a database can be created")
    }

    /// Makes a copy of this database. No program may be connected to it; the connections of this value are
    /// closed.
    pub(crate) async fn try_clone(&self) -> anyhow::Result<Self> {
        self.pool.close().await;
        let mut connection = PgConnection::connect(&self.server).await?;
        if citus::is_tested() {
            run(&mut connection, format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)).await;
            end_connections(&mut connection, &self.name).await;
        }
        let clone = Self::create_with(self.server.clone(), &format!("TEMPLATE {}", self.name)).await;
        run(&mut connection, format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await;
        clone
    }

    /// Makes a database with the end of a statement that creates it.
    async fn create_with(server: String, how: &str) -> anyhow::Result<Self> {
        let name = format!("crm_test_{:016x}", rand::random::<u64>());
        let mut connection = PgConnection::connect(&server).await?;
        let created =
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} {how}"))).execute(&mut connection).await;
        created.map_err(|error| anyhow::anyhow!("CREATE DATABASE {name} {how}: {error}"))?;
        connection.close().await?;
        Ok(Self::at(server, name, true))
    }

    fn at(server: String, name: String, is_own: bool) -> Self {
        let options: PgConnectOptions = server.parse().expect("DATABASE_URL must be a URL of PostgreSQL");
        let options = options.database(&name);
        let url = options.to_url_lossy().to_string();
        let pool = PgPoolOptions::new().max_connections(5).connect_lazy_with(options);
        let jobs = Arc::new(LeftJobs::unchecked(url.clone()));
        Self { name, server, url, pool, is_own, jobs }
    }

    /// The database of this name on another server, which stays when this value is dropped.
    ///
    /// # Panics
    /// If the server has no valid URL.
    #[must_use]
    pub fn on(cluster: &Cluster, name: &str) -> Self {
        Self::at(cluster.url("postgres"), name.to_owned(), false)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connections to it, five at most.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Panics at the end of the test if jobs are queued or running then, unless they
    /// [may be left](Self::may_leave_jobs).
    pub fn must_finish_jobs(&self) {
        self.jobs.check();
    }

    /// Allows the test to end while jobs of this kind are queued or running.
    pub fn may_leave_jobs(&self, kind: &str) {
        self.jobs.allow(kind);
    }

    /// Makes a workspace; returns a key that opens it.
    ///
    /// # Panics
    /// If there is one of this name.
    pub async fn key(&self, workspace: &str) -> String {
        let mut connection = self.pool.acquire().await.expect("the database is there");
        let workspace = workspaces::create(&mut connection, workspace).await.expect("the workspace is new");
        let new = NewKey::of("test", Scopes::ALL, None).expect("the name is valid");
        let key = api_keys::create(&mut connection, workspace.id, &new).await;
        key.expect("a key is made").0.reveal().to_owned()
    }

    fn remove(&self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // The test's runtime may be going down, and cannot wait in here anyway. A database that
        // stays harms nobody: the server of `cargo dev test` is thrown away as a whole.
        let (done, dropped) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let outcome = runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
                connection.close().await
            });
            let _ = done.send(());
            outcome
        });
        // A connection that the test's runtime is opening cannot get on while its thread waits here, and
        // the server does not drop the database before that connection is there or gone.
        let _ = dropped.recv_timeout(PATIENCE);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let complaint = self.jobs.complaint();
        if self.is_own {
            self.remove();
        }
        if let Some(complaint) = complaint {
            panic!("{complaint}");
        }
    }
}

/// The end of the statement that copies the template. Copying its files costs half as much as copying it
/// through the write-ahead log, which is the default from PostgreSQL 15 on.
async fn copy(options: &PgConnectOptions, connection: &mut PgConnection) -> String {
    let template = template(options, connection).await;
    let strategies: bool = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer >= 150000")
        .fetch_one(connection)
        .await
        .expect("the server knows its version");
    format!("TEMPLATE {template} {}", if strategies { "STRATEGY file_copy" } else { "" })
}

/// The name of the database from which others are copied, made if these migrations have none yet.
async fn template(options: &PgConnectOptions, connection: &mut PgConnection) -> String {
    let mut hasher = DefaultHasher::new();
    for migration in db::MIGRATOR.iter() {
        (migration.version, &migration.checksum).hash(&mut hasher);
    }
    let template = format!("crm_template_{:016x}", hasher.finish());

    // Tests start at the same time, in several threads and processes: one of them makes it.
    run(connection, format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&template)
        .fetch_one(&mut *connection)
        .await
        .expect("databases can be listed");
    if !exists {
        // It gets its name when it is complete.
        let partial = format!("{template}_partial");
        run(connection, format!("DROP DATABASE IF EXISTS {partial}")).await;
        run(connection, format!("CREATE DATABASE {partial}")).await;
        migrate(&options.clone().database(&partial)).await;
        run(connection, format!("ALTER DATABASE {partial} ALLOW_CONNECTIONS false")).await;
        end_connections(connection, &partial).await;
        run(connection, format!("ALTER DATABASE {partial} RENAME TO {template}")).await;
    }
    run(connection, format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    template
}

/// Creates a trigger and its function, each by a statement, also on a table that is distributed.
///
/// # Panics
/// If a statement fails.
pub async fn create_trigger(connection: &mut PgConnection, function: &str, trigger: &str) {
    for statement in ["SET citus.enable_unsafe_triggers = on", function, trigger] {
        run(connection, statement.to_owned()).await;
    }
}

/// Drops a trigger.
///
/// # Panics
/// If a statement fails.
pub async fn drop_trigger(connection: &mut PgConnection, trigger: &str, table: &str) {
    for statement in ["SET citus.enable_unsafe_triggers = on".to_owned(), format!("DROP TRIGGER {trigger} ON {table}")]
    {
        run(connection, statement).await;
    }
}

/// Migrates the template, and distributes its tables if tests run on Citus.
async fn migrate(template: &PgConnectOptions) {
    let url = template.to_url_lossy().to_string();
    if citus::is_tested() {
        citus::coordinate(&url, &[]).await.expect("Citus is installed");
    }
    let settings = [("DATABASE_URL".to_owned(), url)];
    let settings = Settings::from_layers(None, settings).expect("the settings are valid");
    shared::migrate::run(&settings.database, |_| ()).await.expect("the migrations run");
}

/// Ends the background process that Citus has in a database.
async fn end_connections(connection: &mut PgConnection, database: &str) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
    while sqlx::query_scalar::<_, i64>(end)
        .bind(database)
        .fetch_one(&mut *connection)
        .await
        .expect("connections can be ended")
        > 0
    {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn run(connection: &mut PgConnection, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(connection).await;
    if let Err(error) = done {
        panic!("{statement}: {error}");
    }
}
