//! Somebody looks at how the period went.

use serde_json::json;
use testing::browser::Look;

use crate::support::Crm;

#[tokio::test]
async fn somebody_looks_at_the_overview_the_reports_and_feedback() {
    let Some(crm) = Crm::start().await else { return };
    for (name, status) in [("Ada", "converted"), ("Bob", "new"), ("Cy", "lost")] {
        let lead =
            json!({ "name": name, "email": format!("{name}@example.com"), "source": "website", "status": status });
        crm.create("/dev/crm/leads", lead).await;
    }
    let customer = crm.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    crm.create(
        "/dev/crm/orders",
        json!({ "customer_id": customer["id"], "product_id": customer["id"], "quantity": 2 }),
    )
    .await;
    for look in [Look::default(), Look::default().phone().dark(), Look::default().narrow().without_scripts()] {
        let page = crm.signed_in("*", look).await;
        for (path, shown) in [
            ("/console", "Leads created"),
            ("/console/reports", "Cohorts"),
            ("/console/reports/leads?period=last_7_days", "now converted or won ÷ all"),
            ("/console/reports/customers", "Repeat rate"),
            ("/console/reports/cohorts", "Customers who ordered again"),
            ("/console/reports/segments", "How customers are grouped"),
            ("/console/feedback", "Request feedback"),
            ("/console/feedback/answers", "No answers match"),
        ] {
            page.open(path).await;
            page.see(shown).await;
            page.accessible().await;
            page.fits().await;
        }
        page.is_clean().await;
    }
}
