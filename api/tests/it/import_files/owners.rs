//! The owners of records in other systems become users of the workspace.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn an_owner_is_found_by_address_name_or_id() {
    let (api, _worker) = start().await;
    let ana = user(&api, "Ana Köhler", "ana@example.com").await;
    // The last form is that of HubSpot.
    let cells = [ana.as_str(), "ana@example.com", "ANA@example.com", "Ana Köhler", "Ana Köhler (ana@example.com)", ""];
    for header in [
        "Lead Owner",
        "Contact owner",
        "Assigned To",
        "assigned_to",
        "Owner",
        "Person - Owner",
        "HubSpot Owner",
        "Lead-Inhaber",
        "Propriétaire du contact",
        "Propietario",
        "リード所有者",
    ] {
        let (job, people) = column(&api, LEADS, "", header, &cells).await;
        assert_mapping(&job, &[(header, "assigned_to")]);
        for (cell, lead) in cells.iter().zip(&people) {
            let expected = if cell.is_empty() { Value::Null } else { json!(ana) };
            assert_eq!(lead["assigned_to"], expected, "{header} {cell}: {lead}");
        }
        assert_eq!(count(&job, "warnings"), 0, "{job}");
    }
}

#[tokio::test]
async fn an_owner_who_is_no_user_is_kept_as_text_and_never_guessed() {
    let (api, _worker) = start().await;
    user(&api, "Sam Poe", "sam@example.com").await;
    user(&api, "Sam Poe", "sam.poe@example.com").await;
    // Two users have the last one.
    let cells = ["Dan Ito", "dan@example.com", "Sam", "Poe", "0055e000001AbCd", "Sam Poe"];
    let (job, people) = column(&api, LEADS, "", "Lead Owner", &cells).await;
    assert_eq!(count(&job, "created"), 6);
    for (cell, lead) in cells.iter().zip(&people) {
        assert_has(lead, json!({ "assigned_to": null, "custom_fields": { "Lead Owner": cell } }));
    }
}
