//! Leads, customers and orders on their pages.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::crawl::tags;
use super::support::Visitor;
use crate::support::{Api, id};

/// The value of an input of a page.
fn value_of(html: &str, name: &str) -> String {
    let mut inputs = tags(html).into_iter().filter(|tag| tag.attribute("name") == Some(name));
    inputs.next_back().unwrap_or_else(|| panic!("no input {name}")).attribute("value").unwrap_or_default().to_owned()
}

/// Opens the form of a record; returns the version that it shows, which is sent with it.
async fn version(visitor: &Visitor, path: &str) -> [(&'static str, String); 2] {
    let html = visitor.page(path).await;
    ["etag", "was"].map(|name| (name, value_of(&html, name)))
}

fn with<'a>(version: &'a [(&'static str, String)], fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    version.iter().map(|(name, value)| (*name, value.as_str())).chain(fields.iter().copied()).collect()
}

async fn lead(api: &Api, name: &str, email: &str) -> Value {
    api.create("/dev/crm/leads", json!({ "name": name, "email": email })).await
}

#[tokio::test]
async fn a_lead_is_created_edited_deleted_and_restored() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let refused = visitor.send("/console/leads", &[("name", "Ada"), ("email", "ada"), ("score", "101")]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.html.contains("must be between 0 and 100"));
    assert_eq!(value_of(&refused.html, "email"), "ada", "what was entered stays");
    let unlike = visitor.send("/console/leads", &[("email", "a@example.com"), ("custom_fields", "gold")]).await;
    assert!(unlike.html.contains("must have `name: value` in line 1"));

    let entered = [
        ("first_name", "Ada"),
        ("last_name", "Lovelace"),
        ("email", "ada@example.com"),
        ("score", "75.5"),
        ("last_contact", "2026-03-01T10:00"),
        ("custom_fields", "tier: gold\r\nsize: 5\r\ncode: \"5\""),
    ];
    let page = visitor.submit("/console/leads", &entered).await;
    let api_path = page.replace("/console", "/dev/crm");
    let ada = api.read(&api_path).await;
    assert_eq!((&ada["name"], &ada["score"]), (&json!("Ada Lovelace"), &json!(75.5)));
    assert_eq!(ada["custom_fields"], json!({ "tier": "gold", "size": 5, "code": "5" }));
    assert_eq!(ada["last_contact"], "2026-03-01T10:00:00Z");

    let edit = format!("{page}/edit");
    let seen = version(&visitor, &edit).await;
    assert_eq!(visitor.submit(&edit, &with(&seen, &[("company", "Engines"), ("notes", "One\r\ntwo")])).await, page);
    let html = visitor.page(&page).await;
    for text in ["Engines", "One\ntwo", "Updated", "you"] {
        assert!(html.contains(text), "{text}: {html}");
    }

    assert_eq!(visitor.submit(&format!("{page}/delete"), &[]).await, "/console/leads");
    let gone = visitor.visit(&page).await;
    assert_eq!(gone.status, 404);
    assert!(gone.html.contains("was deleted on"));
    assert!(visitor.page("/console/leads/deleted").await.contains("ada@example.com"));
    lead(&api, "Another", "ada@example.com").await;
    let blocked = visitor.send(&format!("{page}/restore"), &[]).await;
    assert_eq!(blocked.status, 409);
    assert!(blocked.html.contains("another lead has this email"));
    let other = api.read("/dev/crm/leads?email=ada@example.com").await;
    api.delete(&format!("/dev/crm/leads/{}", id(&other[0])), 204).await;
    assert_eq!(visitor.submit(&format!("{page}/restore"), &[]).await, page);
    assert!(visitor.page(&page).await.contains("Restored"));
}

#[tokio::test]
async fn a_conflict_shows_what_is_stored_beside_what_was_entered() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let ada = lead(&api, "Ada", "ada@example.com").await;
    let (path, edit) = (format!("/dev/crm/leads/{}", id(&ada)), format!("/console/leads/{}/edit", id(&ada)));
    let seen = version(&visitor, &edit).await;
    let theirs = json!({ "company": "Theirs", "phone": "1", "score": 20 });
    api.send(Method::PATCH, &path, theirs, 200).await;

    // Both changed the company, they alone the phone number and the score, and we alone the notes.
    let mine = [("company", "Mine"), ("phone", ""), ("score", "0"), ("notes", "Ours")];
    let conflict = visitor.send(&edit, &with(&seen, &mine)).await;
    assert_eq!(conflict.status, 412);
    let options: Vec<_> =
        tags(&conflict.html).into_iter().filter(|tag| tag.attribute("type") == Some("radio")).collect();
    let option = |name: &str, value: &str| {
        let found =
            options.iter().find(|tag| tag.attribute("name") == Some(name) && tag.attribute("value") == Some(value));
        found.unwrap_or_else(|| panic!("no option {value} of {name}")).attribute("checked").is_some()
    };
    assert!(!option("company", "Theirs") && !option("company", "Mine"), "a person decides");
    assert!(option("phone", "1") && option("score", "20") && option("notes", "Ours"));
    assert_eq!(api.read(&path).await["company"], "Theirs", "nothing was saved");

    let again = ["etag", "was"].map(|name| (name, value_of(&conflict.html, name)));
    let chosen = [("company", "Mine"), ("phone", "1"), ("score", "20"), ("notes", "Ours")];
    visitor.submit(&edit, &with(&again, &chosen)).await;
    let saved = api.read(&path).await;
    let saved = ["company", "phone", "score", "notes"].map(|field| &saved[field]);
    assert_eq!(saved, [&json!("Mine"), &json!("1"), &json!(20), &json!("Ours")]);
}

#[tokio::test]
async fn lists_have_every_filter_of_the_api() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "records:read,exports").await;
    for (name, score) in [("Ada", 10), ("Bob", 60), ("Cy", 90)] {
        let email = format!("{name}@example.com");
        let fields = json!({ "tier": if score > 50 { "gold" } else { "tin" } });
        let body = json!({ "name": name, "email": email, "score": score, "custom_fields": fields });
        api.create("/dev/crm/leads", body).await;
    }
    let document = api.read("/openapi.json").await;
    for noun in ["leads", "customers", "orders"] {
        let html = visitor.page(&format!("/console/{noun}")).await;
        let offered = tags(&html).into_iter().filter(|tag| tag.name == "option");
        let offered: Vec<String> = offered.filter_map(|tag| tag.attribute("value").map(str::to_owned)).collect();
        let parameters = document["paths"][format!("/dev/crm/{noun}")]["get"]["parameters"].as_array().unwrap();
        let names = parameters.iter().filter_map(|parameter| parameter["name"].as_str());
        let own = ["q", "sort", "tz", "limit", "cursor", "count", "deleted"];
        for name in names.filter(|name| !name.contains('[') && !own.contains(name)) {
            assert!(offered.iter().any(|field| field == name), "{noun}: {name}");
        }
    }

    let added = visitor.visit("/console/leads?status=new&where=custom&key=tier&is=&value=gold").await;
    assert_eq!(added.leads_to(), "/console/leads?status=new&custom.tier=gold");
    let added = visitor.visit(&format!("{}&where=score&is=lt&value=80", added.leads_to())).await;
    let html = visitor.page(added.leads_to()).await;
    assert!(html.contains("Bob") && !html.contains(">Ada<") && !html.contains(">Cy<"), "{html}");
    assert!(html.contains("1 match") && html.contains("Score less than 80") && html.contains("tier is gold"));
    let export = tags(&html).into_iter().filter_map(|tag| tag.attribute("href").map(str::to_owned));
    let export = export.into_iter().find(|link| link.starts_with("/console/leads/export")).unwrap();
    let file = visitor.visit(&export).await;
    assert!(file.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    assert_eq!(file.html.lines().count(), 2);

    let wrong = visitor.visit("/console/leads?score[gte]=many&q=a").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.html.contains("score[gte]"), "{}", wrong.html);
    let chosen = visitor.page("/console/leads?columns=score&columns=custom_fields&sort=-score").await;
    assert!(chosen.contains("tier: ") && !chosen.contains("cy@example.com"));
    assert!(chosen.find(">Cy<") < chosen.find(">Ada<"));
}

#[tokio::test]
async fn a_lead_becomes_a_customer() {
    let api = Api::start().await;
    let visitor = Visitor::signed_in(&api, "*").await;
    let ada = lead(&api, "Ada", "ada@example.com").await;
    let convert = format!("/console/leads/{}/convert", id(&ada));
    let refused =
        visitor.send(&convert, &[("name", "Ada"), ("email", "ada@example.com"), ("credit_limit", "-1")]).await;
    assert_eq!(refused.status, 400);
    let entered = [("name", "Ada"), ("email", "ada@example.com"), ("type", "business"), ("credit_limit", "1000.25")];
    let page = visitor.submit(&convert, &entered).await;
    let customer = api.read(&page.replace("/console", "/dev/crm")).await;
    let given = ["type", "credit_limit", "lead_id"].map(|field| &customer[field]);
    assert_eq!(given, [&json!("business"), &json!(1000.25), &ada["id"]]);
    let html = visitor.page(&page).await;
    assert!(html.contains(&format!("/console/leads/{}", id(&ada))) && html.contains("the conversion of a lead"));
    assert_eq!(visitor.send(&convert, &entered).await.status, 409);

    let bob = lead(&api, "Bob", "bob@example.com").await;
    api.create("/dev/crm/customers", json!({ "name": "Robert", "email": "bob@example.com" })).await;
    let html = visitor.page(&format!("/console/leads/{}/convert", id(&bob))).await;
    assert!(html.contains("Robert") && html.contains("will be linked to that customer"));
}

#[tokio::test]
async fn interactions_and_orders_are_in_the_timeline() {
    let api = Api::start().await;
    api.leaves_jobs("request_feedback");
    let visitor = Visitor::signed_in(&api, "*").await;
    let ada = api.create("/dev/crm/customers", json!({ "name": "Ada", "email": "ada@example.com" })).await;
    let page = format!("/console/customers/{}", id(&ada));
    let met = format!("{page}/interactions");
    assert_eq!(visitor.send(&met, &[("type", "call")]).await.status, 400);
    let call = [
        ("type", "call"),
        ("subject", "Prices"),
        ("date", "2026-03-01T10:00"),
        ("next_action", "Send an offer"),
        ("next_action_date", "2026-03-02T10:00"),
    ];
    assert_eq!(visitor.submit(&met, &call).await, page);
    let order = [("customer_id", "nobody@example.com"), ("product_id", &Uuid::now_v7().to_string()), ("quantity", "2")];
    let refused = visitor.send("/console/orders", &order).await;
    assert!(refused.html.contains("is not the email of a customer"));
    let order = [order[1], order[2], ("customer_id", "ada@example.com"), ("external_id", "A-1")];
    let order = visitor.submit("/console/orders", &order).await;
    assert!(visitor.page(&order).await.contains(">Ada<"));
    visitor.submit(&format!("{page}/feedback"), &[]).await;
    assert_eq!(visitor.send(&format!("{page}/feedback"), &[]).await.status, 409, "a request is open");

    let html = visitor.page(&page).await;
    for text in ["Prices", "Send an offer", "Overdue", "A-1", "Requested", "Next actions"] {
        assert!(html.contains(text), "{text}: {html}");
    }
    let interactions = api.read(&format!("/dev/crm/customers/{}/interactions", id(&ada))).await;
    let interaction = format!("{met}/{}", id(&interactions[0]));
    let seen = version(&visitor, &interaction).await;
    visitor.submit(&interaction, &with(&seen, &[("outcome", "Interested")])).await;
    visitor.submit(&format!("{interaction}/complete"), &[]).await;
    let html = visitor.page(&page).await;
    assert!(html.contains("Interested") && !html.contains("Send an offer"));
    visitor.submit(&format!("{interaction}/delete"), &[]).await;
    assert!(!visitor.page(&met).await.contains("Prices"));
}

#[tokio::test]
async fn what_a_key_may_not_do_is_neither_offered_nor_done() {
    let api = Api::start().await;
    let ada = lead(&api, "Ada", "ada@example.com").await;
    let page = format!("/console/leads/{}", id(&ada));
    let reader = Visitor::signed_in(&api, "records:read").await;
    for path in ["/console/leads", &page] {
        let html = reader.page(path).await;
        for word in ["New lead", "Export", ">Edit", "Delete<", "Convert to", "nurture</button>", "Add interaction"] {
            assert!(!html.contains(word), "{path} offers {word}");
        }
    }
    for action in ["edit", "delete", "restore", "convert", "nurture/enroll", "interactions"] {
        let refused = reader.send(&format!("{page}/{action}"), &[("company", "Mine"), ("type", "call")]).await;
        assert_eq!(refused.status, 403, "{action}");
    }
    assert_eq!(reader.visit("/console/leads/export").await.status, 403);

    let other = api.on("globex").await;
    let stranger = Visitor::signed_in(&other, "*").await;
    for path in [&page, &format!("{page}/edit"), &format!("{page}/convert"), &format!("{page}/interactions")] {
        assert_eq!(stranger.visit(path).await.status, 404, "{path}");
    }
    for action in ["edit", "delete", "restore", "convert", "nurture/enroll", "interactions"] {
        let refused = stranger.send(&format!("{page}/{action}"), &[("company", "Mine"), ("type", "call")]).await;
        assert_eq!(refused.status, 404, "{action}");
    }
}
