//! A customer follows the link in an email and gives feedback.

use serde_json::{Value, json};
use testing::browser::Look;

use crate::support::{Crm, id};

/// Asks a customer for feedback; returns the path of the page in the email, and of the feedback.
async fn asked(crm: &Crm, email: &str) -> (String, String) {
    let ada = crm.create("/dev/crm/customers", json!({ "name": "Ada Lovelace", "email": email })).await;
    let job = crm.run(&format!("/dev/crm/customers/{}/feedback/request", id(&ada))).await;
    let feedback = job["subject"]["id"].as_str().unwrap();
    let emails = crm.read(&format!("/dev/crm/emails?to_email={email}")).await;
    let email = crm.read(&format!("/dev/crm/emails/{}", id(&emails[0]))).await;
    let text = email["text_body"].as_str().unwrap();
    let link = text.split_whitespace().find_map(|word| word.find("/feedback/").map(|at| &word[at..])).unwrap();
    (link.to_owned(), format!("/dev/crm/feedback/{feedback}"))
}

#[tokio::test]
async fn a_customer_answers_on_any_device_and_without_scripts() {
    let Some(crm) = Crm::working().await else { return };
    crm.leaves_jobs("find_themes");
    let looks = [
        ("wide", Look::default()),
        ("phone", Look::default().phone().dark()),
        ("keyboard", Look::default().by_keyboard()),
        ("scriptless", Look::default().narrow().without_scripts()),
    ];
    for (name, look) in looks {
        let (page_path, feedback) = asked(&crm, &format!("{name}@example.com")).await;
        let page = crm.visitor(look).await;
        page.open(&page_path).await;
        page.see("Hello Ada").await;
        page.accessible().await;
        page.fits().await;

        page.choose("How satisfied are you?", "Good").await;
        page.choose("What is it about?", "Delivery").await;
        page.fill("Anything to add?", "Quick,\nand kind").await;
        page.click("Send").await;
        page.see("Thank you").await;
        page.accessible().await;
        page.is_clean().await;

        let answered = crm.read(&feedback).await;
        let given = ["status", "rating", "category", "comment"].map(|field| &answered[field]);
        let comment = Value::from("Quick,\nand kind");
        assert_eq!(given, [&json!("answered"), &json!(4), &json!("delivery"), &comment], "{name}");
    }
}
