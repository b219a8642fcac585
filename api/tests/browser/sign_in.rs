//! Somebody signs in to the console with a key, and out again.

use testing::browser::Look;

use crate::support::{Crm, sign_in};

#[tokio::test]
async fn somebody_signs_in_and_out_on_any_device_and_without_scripts() {
    let Some(crm) = Crm::start().await else { return };
    for look in [
        Look::default(),
        Look::default().phone().dark(),
        Look::default().by_keyboard(),
        Look::default().narrow().without_scripts(),
    ] {
        let page = crm.visitor(look).await;
        page.open("/console").await;
        page.at("/console/sign-in").await;
        page.accessible().await;
        page.fits().await;

        page.fill("API key", "not a key").await;
        page.click("Sign in").await;
        page.see("This is not an API key.").await;
        page.accessible().await;

        sign_in(&page, &crm.key).await;
        assert_eq!(page.text("h1").await, "Overview");
        page.accessible().await;
        page.fits().await;
        page.click("Sign out").await;
        page.open("/console").await;
        page.at("/console/sign-in").await;
        page.is_clean().await;
    }
}

#[tokio::test]
async fn what_a_key_may_not_do_is_not_shown() {
    let Some(crm) = Crm::start().await else { return };
    let page = crm.signed_in_as("records:read").await;
    assert!(page.texts("nav a").await.contains(&"Leads".to_owned()));
    assert!(!page.texts("nav a").await.contains(&"Imports".to_owned()));
    let everything = crm.signed_in_as("*").await;
    assert!(everything.texts("nav a").await.contains(&"Imports".to_owned()));
    assert!(everything.weight() < 100_000, "{} bytes", everything.weight());
}
