//! `crm-worker`: does the long work.

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    worker::cli::run().await
}
