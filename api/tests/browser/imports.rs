//! Somebody imports a file, sees what it did, and undoes it.

use serde_json::json;
use testing::browser::{Look, Page};
use uuid::Uuid;

use crate::support::Crm;

/// Waits until the page shows a text; without scripts, it has to be loaded again.
async fn see_later(page: &Page, text: &str, lives: bool) {
    if lives {
        return page.see(text).await;
    }
    while !page.text("main").await.contains(text) {
        // The address has a fragment, with which a reload may stay on the same document.
        page.open(&page.path().await).await;
    }
}

#[tokio::test]
async fn a_file_is_imported_and_undone_on_any_device_and_without_scripts() {
    let Some(crm) = Crm::working().await else { return };
    let file = std::env::temp_dir().join(format!("{}.csv", Uuid::now_v7()));
    let rows = "Name;E-mail;Points\nAda;ada@example.com;38\nBob;bob;7\n";
    std::fs::write(&file, rows).unwrap();
    let looks = [
        (Look::default(), true),
        (Look::default().phone().dark().by_keyboard(), true),
        (Look::default().narrow().without_scripts(), false),
    ];
    for (look, lives) in looks {
        let page = crm.signed_in("imports,records:read", look).await;
        page.click("Imports").await;
        page.accessible().await;
        page.fits().await;
        page.attach("File with leads", &file).await;
        page.click("Upload").await;

        page.see("semicolon").await;
        page.accessible().await;
        page.fits().await;
        assert!(page.weight() < 100_000, "{} bytes", page.weight());
        page.choose("What becomes of Points", "Score").await;
        page.click("Dry run").await;
        see_later(&page, "Import 1 leads", lives).await;
        page.see("must be an email address").await;
        page.accessible().await;
        page.fits().await;
        assert_eq!(crm.read("/dev/crm/leads").await, json!([]));

        page.click("Import 1 leads").await;
        see_later(&page, "Succeeded", lives).await;
        page.accessible().await;
        page.fits().await;
        assert_eq!(crm.read("/dev/crm/leads").await[0]["score"], 38);
        let (name, rejected) = page.download("Rejected rows as CSV").await;
        assert!(name.ends_with(".csv") && String::from_utf8(rejected).unwrap().contains("Bob,bob,7"));

        page.click("details.confirm > summary").await;
        page.see("Deletes the 1 records that it created").await;
        page.accessible().await;
        page.click(".popover button").await;
        page.see("Undo import").await;
        see_later(&page, "Succeeded", lives).await;
        assert_eq!(crm.read("/dev/crm/leads").await, json!([]));
        page.is_clean().await;
    }
    std::fs::remove_file(&file).unwrap();
}
