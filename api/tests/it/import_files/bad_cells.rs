//! A cell that cannot be read costs the cell, not the person.

use serde_json::json;

use super::*;

/// Cells that no field accepts: the header, the cell, and the field that stays as it is without the cell.
const BAD: [(&str, &str, &str); 10] = [
    ("Score", "900", "score"),
    ("Score", "-1", "score"),
    ("Score", "high", "score"),
    ("Last Contact", "soon", "last_contact"),
    ("Last Contact", "2024-02-30", "last_contact"),
    ("Status", "On Ice", "status"),
    ("Source", "Carrier Pigeon", "source"),
    ("campaign_id", "spring", "campaign_id"),
    ("Phone", "123456789 123456789 123456789 123456789 123456789 12", "phone"),
    ("score", "1.2.3", "score"),
];

#[tokio::test]
async fn a_bad_cell_is_kept_as_text_and_is_a_warning() {
    let (api, _worker) = start().await;
    for (header, cell, field) in BAD {
        let (job, people) = column(&api, LEADS, "", header, &[cell, ""]).await;
        assert_counts(&job, json!({ "created": 2, "warnings": 1 }));
        assert_eq!(people[0][field], people[1][field], "{header}: {cell}");
        assert_eq!(people[0]["custom_fields"], json!({ header: cell }));
        let warned = reported(&api, &job, "warned").await;
        assert_eq!((warned.len(), &warned[0]["line"], &warned[0]["row"][header]), (1, &json!(2), &json!(cell)));
    }
}

#[tokio::test]
async fn strict_rejects_the_rows_of_bad_cells_and_changes_nothing_else() {
    let (api, _worker) = start().await;
    for (header, cell, _) in BAD {
        let job = import(&api, LEADS, "strict=true", with_column(header, &[cell, ""])).await;
        assert_counts(&job, json!({ "created": 1, "failed": 1 }));
    }
    // The value of a known word, an opt-out and a second address are no bad cells.
    let file = "Name,Email,Status,Email Opt Out\nAl,\"al@example.com, ale@example.com\",Closed Won,true\n";
    assert_counts(&import(&api, LEADS, "strict=true", file).await, json!({ "created": 1, "suppressed": 1 }));
}

#[tokio::test]
async fn all_faults_of_a_row_are_reported() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Score,Last Contact,Status\nAl,al@,900,soon,On Ice\nBo,bo@example.com,900,soon,On Ice\n";
    let job = import(&api, LEADS, "", file).await;
    assert_eq!((count(&job, "created"), count(&job, "failed")), (1, 1), "{job}");
    let rows = reported(&api, &job, "failed,warned").await;
    let faults = |at: usize| -> Vec<String> {
        let faults = rows[at]["faults"].as_array().unwrap();
        let mut fields: Vec<_> = faults.iter().map(|fault| fault["field"].as_str().unwrap().to_owned()).collect();
        fields.sort_unstable();
        fields
    };
    assert_eq!(faults(0), ["email", "last_contact", "score", "status"]);
    assert_eq!(faults(1), ["last_contact", "score", "status"]);
    for row in &rows {
        for part in ["field", "code", "message"] {
            assert_eq!(row[part], row["faults"][0][part], "the first fault is repeated at the top: {row}");
        }
    }
    assert_eq!((&rows[0]["field"], &rows[0]["code"]), (&json!("email"), &json!("invalid")));
}

#[tokio::test]
async fn an_unreadable_cell_changes_no_field_of_an_existing_record() {
    let (api, _worker) = start().await;
    let before = "Name,Email,Score,Status,Source,Last Contact\nAl,al@example.com,70,won,website,2024-01-02\n";
    import(&api, LEADS, "", before).await;
    let after = "Name,Email,Score,Status,Source,Last Contact\nAl,al@example.com,lots,On Ice,Pigeon,soon\n";
    let job = import(&api, LEADS, "on_conflict=update", after).await;
    assert_counts(&job, json!({ "updated": 1, "warnings": 4 }));
    let kept = json!({ "Score": "lots", "Status": "On Ice", "Source": "Pigeon", "Last Contact": "soon" });
    let expected = json!({ "score": 70, "status": "won", "source": "website",
        "last_contact": "2024-01-02T00:00:00Z", "custom_fields": kept });
    assert_has(&person(&api, LEADS, "al@example.com").await, expected);
}
