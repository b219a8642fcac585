//! Takes pictures of the console with the sample data, for the documentation.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use dev::client::Client;
use dev::{demo, sample};
use testing::browser::{Browser, Look, Page};
use testing::workspace;

use crate::private_api::{PrivateApi, with_private_api};

/// The pictures and their pages. `{lead}` and `{import}` stand for ids of the sample.
const PICTURES: [(&str, &str); 4] = [
    ("overview.png", "/console"),
    ("lead.png", "/console/leads/{lead}"),
    ("import.png", "/console/jobs/{import}"),
    ("report.png", "/console/reports/leads"),
];
const DIRECTORY: &str = "docs/images";
const SIZE: (u16, u16) = (1280, 800);
/// The most bytes of a picture, since every clone of the repository has them all.
const MAX_BYTES: usize = 200_000;
const SAMPLE_ROWS: usize = 10_000;

/// Takes all pictures.
pub(super) async fn run(is_dark: bool) -> Result<ExitCode> {
    let program = Browser::find().context("Chromium is needed: install it, or set CHROMIUM to its path")?;
    let browser = Browser::start(program).await?;
    with_private_api(async |api| take(is_dark, &browser, &api).await).await
}

async fn take(is_dark: bool, browser: &Browser, api: &PrivateApi) -> Result<ExitCode> {
    let client = Client::new(&api.url, &api.key);
    eprintln!("creating the sample data …");
    let import = demo::ended(&client, &client.import("leads", sample::leads(SAMPLE_ROWS, 1)).await?).await?;
    demo::fill(&client, |_| {}).await?;
    let lead = client.get("leads?status=contacted&sort=-score&limit=1").await?;
    let (lead, import) = (demo::id_of(&lead[0])?, demo::id_of(&import)?);

    let look = Look::default().sized(SIZE.0, SIZE.1);
    let page = browser.visit(&api.url, if is_dark { look.dark() } else { look }).await;
    let directory = workspace::root().join(DIRECTORY);
    std::fs::create_dir_all(&directory)?;
    let key = api.key.clone();
    // A page that is not as it should be panics, and says why.
    let taken = tokio::spawn(async move {
        sign_in(&page, &key).await;
        for (name, path) in PICTURES {
            page.open(&path.replace("{lead}", &lead).replace("{import}", &import)).await;
            page.is_clean().await;
            write(&directory.join(name), &page.screenshot().await)?;
        }
        anyhow::Ok(())
    });
    taken.await.map_err(|_| anyhow!("a page is not as it should be"))??;
    Ok(ExitCode::SUCCESS)
}

async fn sign_in(page: &Page, key: &str) {
    page.open("/console").await;
    page.fill("API key", key).await;
    page.click("Sign in").await;
    page.see("Sign out").await;
}

fn write(file: &Path, picture: &[u8]) -> Result<()> {
    let bytes = picture.len();
    ensure!(bytes <= MAX_BYTES, "{} has {bytes} bytes, more than {MAX_BYTES}", file.display());
    std::fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{} ({} KB)", file.display(), bytes / 1_000);
    Ok(())
}
