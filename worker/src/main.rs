//! `crm-worker`: does the long work.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    worker::cli::run().await
}
