//! What was said and done in another system: tasks of Salesforce, calls of HubSpot, lists of people.

use serde_json::json;

use super::*;

const OF_LEADS: &str = "/dev/crm/leads/interactions";
const OF_CUSTOMERS: &str = "/dev/crm/customers/interactions";

/// A lead and a customer with the id of another system.
async fn people(api: &Api) -> (String, String) {
    let person = json!({ "name": "Ann", "email": "ann@example.com", "external_id": "00Q5e01" });
    let lead = api.create(LEADS, person.clone()).await;
    let customer = api.create(CUSTOMERS, person).await;
    (format!("{LEADS}/{}/interactions", id(&lead)), format!("{CUSTOMERS}/{}/interactions", id(&customer)))
}

#[tokio::test]
async fn activities_of_salesforce_become_interactions() {
    let (api, _worker) = start().await;
    let (of_lead, of_customer) = people(&api).await;
    let file = "Id,WhoId,Subject,ActivityDate,Status,Priority,Description,TaskSubtype,CreatedDate,IsDeleted\n\
                00T1,00Q5e01,Call about prices,2026-01-05,Completed,Normal,\"Wants an offer.\nCall again.\",Call,2026-01-02T08:00:00.000Z,false\n\
                00T2,00Q5e01,Send brochure,2026-01-06,Not Started,High,,Task,2026-01-02T08:00:00.000Z,false\n\
                00T3,00Q5e01,Gone,2026-01-07,Completed,Normal,,Email,2026-01-02T08:00:00.000Z,true\n\
                00T4,00Q5e99,Stranger,2026-01-07,Completed,Normal,,Email,2026-01-02T08:00:00.000Z,false\n";
    let job = import(&api, OF_LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "skipped": 1, "failed": 1 }));
    assert_eq!(remarks(&api, &job).await, ["5 skipped deleted", "6 failed not_found"]);
    let calls = api.read(&format!("{of_lead}?external_id=00T1")).await;
    let kept = json!({ "Subject": "Call about prices", "Status": "Completed" });
    let expected = json!({ "type": "call", "notes": "Wants an offer.\nCall again.", "created_at": "2026-01-05T00:00:00Z",
        "next_action": null, "next_action_date": null, "custom_fields": kept });
    assert_has(&calls[0], expected);
    assert_has(&api.read(&format!("{of_lead}?external_id=00T2")).await[0], json!({ "type": "note" }));

    let job = import(&api, OF_CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "skipped": 1, "failed": 1 }));
    let calls = api.read(&format!("{of_customer}?external_id=00T1&import_job_id={}", id(&job))).await;
    let expected = json!({ "type": "call", "subject": "Call about prices", "date": "2026-01-05T00:00:00Z" });
    assert_has(&calls[0], expected);
    assert_has(&api.read(&format!("{of_customer}?external_id=00T2")).await[0], json!({ "type": "other" }));
    assert_counts(&import(&api, OF_CUSTOMERS, "", file).await, json!({ "skipped": 3, "failed": 1 }));
}

#[tokio::test]
async fn calls_of_hubspot_are_calls() {
    let (api, _worker) = start().await;
    let (_, of_customer) = people(&api).await;
    let file = "Record ID,Call Title,Activity date,Call notes,Call outcome,Call duration,Associated Contact,Associated Contact Email\n\
                771,Intro,2026-02-03 10:15,Talked about <b>prices</b>,Connected,120000,Ann,ann@example.com\n\
                772,,2026-02-04 10:15,Voicemail,No answer,0,Ann,ann@example.com\n";
    let job = import(&api, OF_CUSTOMERS, "tz=Europe/Berlin", file).await;
    assert_counts(&job, json!({ "created": 2 }));
    let first = &api.read(&format!("{of_customer}?external_id=771")).await[0];
    let expected = json!({ "type": "call", "subject": "Intro", "outcome": "Connected", "date": "2026-02-03T09:15:00Z",
        "description": "Talked about <b>prices</b>" });
    assert_has(first, expected);
    let second = &api.read(&format!("{of_customer}?external_id=772")).await[0];
    assert_has(second, json!({ "type": "call", "subject": "Voicemail" }));
}

#[tokio::test]
async fn types_are_understood_in_many_languages() {
    let (api, _worker) = start().await;
    let (of_lead, _) = people(&api).await;
    for (header, cells) in [
        ("Type", [("Phone call", "call"), ("Appointment", "meeting"), ("Support", "note"), ("E-mail", "email")]),
        ("Aktivitätstyp", [("Anruf", "call"), ("Termin", "meeting"), ("Notiz", "note"), ("E-Mail", "email")]),
        ("Type d'activité", [("Appel", "call"), ("Réunion", "meeting"), ("Remarque", "note"), ("Courriel", "email")]),
        ("活動種別", [("電話", "call"), ("打ち合わせ", "meeting"), ("メモ", "note"), ("メール", "email")]),
    ] {
        let rows = cells.map(|(cell, _)| format!("ann@example.com\t{cell}\n"));
        let job = import(&api, OF_LEADS, "", format!("Email\t{header}\n{}", rows.concat())).await;
        assert_counts(&job, json!({ "created": 4 }));
        let found = api.read(&format!("{of_lead}?import_job_id={}", id(&job))).await;
        let mut types = each(&found, "type");
        types.sort_unstable();
        assert_eq!(types, ["call", "email", "meeting", "note"], "{header}");
    }
    // An unknown type is a note, and its text is kept.
    let job = import(&api, OF_LEADS, "", "Email,Type\nann@example.com,Telepathy\n").await;
    assert_counts(&job, json!({ "created": 1, "warnings": 1 }));
    assert_eq!(job["result"]["unmatched"], json!({ "Type": { "Telepathy": 1 } }));
    let found = api.read(&format!("{of_lead}?import_job_id={}", id(&job))).await;
    assert_has(&found[0], json!({ "type": "note", "custom_fields": { "Type": "Telepathy" } }));
    // A customer's interaction took place some day.
    let job = import(&api, OF_CUSTOMERS, "", "Email,Type,Subject\nann@example.com,Call,Hello\n").await;
    assert_eq!(remarks(&api, &job).await, ["2 failed required"]);
}

#[tokio::test]
async fn interactions_are_updated_and_undone() {
    let (api, _worker) = start().await;
    let (of_lead, of_customer) = people(&api).await;
    let header = "Activity ID,Email,Type,Subject,Date,Next step,Next step date";
    let file = format!(
        "{header}\n1,ann@example.com,Call,Hi,2026-01-01,Send offer,2026-02-01\n,ann@example.com,Note,Ho,2026-01-02,,\n"
    );
    for (list, records) in [(OF_LEADS, &of_lead), (OF_CUSTOMERS, &of_customer)] {
        let first = import(&api, list, "", file.clone()).await;
        assert_counts(&first, json!({ "created": 2 }));
        assert_eq!(count(&first, "without_key"), 1);
        let changed = format!("{header}\n1,ann@example.com,Meeting,Hi,2026-01-01,,\n");
        let second = import(&api, list, "on_conflict=update", changed).await;
        assert_counts(&second, json!({ "updated": 1 }));
        let read = async || api.read(&format!("{records}?external_id=1")).await[0].clone();
        assert_has(&read().await, json!({ "type": "meeting", "next_action": "Send offer" }));
        let done = api.read(&format!("/dev/crm/jobs/{}/records", id(&second))).await;
        assert_eq!((&done[0]["outcome"], &done[0]["email"]), (&json!("updated"), &json!(null)), "{done}");
        for (job, expected) in [(&second, [0, 1, 0]), (&first, [1, 0, 1])] {
            let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(job))), 202).await;
            let undo = api.ended(&undo).await;
            let counts = ["removed", "restored", "left"].map(|name| undo["result"][name].as_i64().unwrap());
            assert_eq!(counts, expected, "{undo}");
        }
        // The other one was changed after the import.
        assert_eq!(api.read(records).await.as_array().unwrap().len(), 1);
    }
}
