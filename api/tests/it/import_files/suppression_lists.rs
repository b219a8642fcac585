//! Lists of addresses that get no email.

use serde_json::json;
use shared::values::{EmailHash, Field};

use super::*;

async fn undo(api: &Api, job: &Value) -> i64 {
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
    api.ended(&undo).await["result"]["unsuppressed"].as_i64().unwrap()
}

fn hash(address: &str) -> String {
    EmailHash::of(&shared::values::Email::from_text(address).unwrap().key()).as_ref().to_owned()
}

#[tokio::test]
async fn a_bare_list_of_addresses_is_a_file() {
    let (api, _worker) = start().await;
    api.create(SUPPRESSIONS, json!({ "email": "bo@example.com" })).await;
    let file = "Al@example.com\n\n<bo@example.com>\nnot an address\ncy@example.com; di@example.com\nAL@EXAMPLE.COM\n";
    let job = import(&api, SUPPRESSIONS, "delimiter=comma", file).await;
    assert_counts(&job, json!({ "created": 2, "skipped": 2, "failed": 1, "suppressed": 3 }));
    assert_eq!(remarks(&api, &job).await, ["3 skipped taken", "4 failed invalid", "6 skipped taken"]);
    let all = ["Al@example.com", "bo@example.com", "cy@example.com", "di@example.com"];
    assert_eq!(suppressed(&api).await, all);
    let al = &api.read(&format!("{SUPPRESSIONS}?email=al@example.com")).await[0];
    assert_has(al, json!({ "reason": "imported", "job_id": job["id"], "line": 1 }));
    let done = api.read(&format!("/dev/crm/jobs/{}/records", id(&job))).await;
    assert_eq!(each(&done, "outcome"), ["suppressed"; 3]);
    assert_eq!(api.read(&format!("{SUPPRESSIONS}?import_job_id={}", id(&job))).await.as_array().unwrap().len(), 3);
    // Nothing is new, and an import lifts nothing.
    for query in ["", "on_conflict=update", "on_conflict=fail", "dry_run=true"] {
        let again = import(&api, SUPPRESSIONS, query, "al@example.com\n").await;
        assert_eq!((count(&again, "created"), count(&again, "suppressed")), (0, 0), "{query}");
    }
    assert_eq!(undo(&api, &job).await, 3);
    assert_eq!(suppressed(&api).await, ["bo@example.com"]);
}

#[tokio::test]
async fn a_list_with_columns_has_reasons_and_dates() {
    let (api, _worker) = start().await;
    let file = "Email Address,Reason,Unsubscribed At,First Name\nal@example.com,Hard bounce,2024-01-05,Al\n\
                bo@example.com,Unsubscribe,2024-01-06,Bo\ncy@example.com,,,Cy\ndi@example.com,Whim,2024-01-07,Di\n";
    assert_counts(
        &import(&api, SUPPRESSIONS, "dry_run=true", file).await,
        json!({ "created": 4, "suppressed": 4, "warnings": 1 }),
    );
    assert!(suppressed(&api).await.is_empty());
    let job = import(&api, SUPPRESSIONS, "", file).await;
    assert_counts(&job, json!({ "created": 4, "suppressed": 4, "warnings": 1 }));
    let list = api.read(&format!("{SUPPRESSIONS}?sort=email")).await;
    assert_eq!(each(&list, "reason"), ["bounced", "unsubscribed", "imported", "imported"]);
    assert_eq!(list[0]["created_at"], "2024-01-05T00:00:00Z");
    for file in ["Name,Phone\nAl,1\n", "email\n"] {
        if file == "email\n" {
            assert_eq!(count(&import(&api, SUPPRESSIONS, "", file).await, "rows"), 0);
        } else {
            let answer = refused(&api, SUPPRESSIONS, "", file).await;
            assert_eq!(support::faults(&answer)[0], ("email", "missing_column"));
        }
    }
    let answer = refused(&api, SUPPRESSIONS, "key=id", "email\n").await;
    assert_eq!(support::faults(&answer), [("key", "invalid")]);
}

#[tokio::test]
async fn an_address_is_suppressed_by_its_hash() {
    let (api, _worker) = start().await;
    let (al, bo) = (hash("AL@example.com"), hash("bo@bücher.example"));
    let job = import(&api, SUPPRESSIONS, "", format!("{}\n{bo}\n", al.to_uppercase())).await;
    assert_counts(&job, json!({ "created": 2, "suppressed": 2 }));
    let list = api.read(SUPPRESSIONS).await;
    assert_has(&list[1], json!({ "email": null, "email_hash": al, "reason": "imported" }));
    // They get no email: neither nurture nor a request for feedback.
    let lead = |email: &str| json!({ "name": "x", "email": email });
    for email in ["al@example.com", "bo@xn--bcher-kva.example", "cy@example.com"] {
        api.create(LEADS, lead(email)).await;
    }
    let run = support::json(api.post("/dev/crm/leads/nurture/start"), 202).await;
    let run = api.ended(&run).await;
    assert_eq!((&run["result"]["sent"], &run["result"]["skipped"]["suppressed"]), (&json!(1), &json!(2)), "{run}");
    let al = api.create(CUSTOMERS, lead("al@example.com")).await;
    let request = format!("{CUSTOMERS}/{}/feedback/request", id(&al));
    let answer = support::json(api.post(&request), 409).await;
    assert_eq!((&answer["errors"][0]["code"], &answer["errors"][0]["id"]), (&json!("suppressed"), &list[1]["id"]));
    // The undo lifts what it wrote.
    assert_eq!(undo(&api, &job).await, 2);
    support::json(api.post(&request), 202).await;
}
