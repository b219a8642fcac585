use sqlx::{Connection, PgConnection};
use testing::Database;
use testing::postgres::{self, Cluster, Options};
use testing::server::Server;

#[tokio::test]
async fn each_test_has_its_own_migrated_database() {
    let (one, other) = (Database::create().await, Database::create().await);
    one.key("acme").await;
    // The name is free in the other database.
    other.key("acme").await;

    let name = one.url().rsplit('/').next().unwrap().to_owned();
    drop(one);
    let is_deleted: bool = sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(other.pool())
        .await
        .unwrap();
    assert!(is_deleted);
}

#[tokio::test]
async fn a_cluster_keeps_its_data_and_its_url() {
    let server = Server::find().await.unwrap();
    let dir = std::env::temp_dir().join(format!("crm dev {:016x}", rand::random::<u64>()));
    let options = Options { durable: false, max_connections: 10, ..Options::default() };

    let first = Cluster::start(&server, &dir, &options).await.unwrap();
    let url = first.database("crm").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept AS SELECT 'naïve' AS word").execute(&mut connection).await.unwrap();
    assert!(postgres::is_in_use(&dir));
    // Stopping does not wait for clients such as this connection.
    first.stop().await.unwrap();
    assert!(!postgres::is_in_use(&dir));

    let second = Cluster::start(&server, &dir, &options).await.unwrap();
    assert_eq!(second.database("crm").await.unwrap(), url);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let word: String = sqlx::query_scalar("SELECT upper(word) FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(word.to_lowercase(), "naïve");
    second.stop().await.unwrap();

    postgres::remove(&dir).await.unwrap();
    // Only the directory is left.
    std::fs::remove_dir(&dir).unwrap();
}
