//! What an import answers: refusals that help, and lists of what it did.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_missing_column_is_reported_with_what_was_found() {
    let (api, _worker) = start().await;
    for (file, found) in [
        ("Nmae;Telefon\nAda;1\n", vec!["Nmae", "Telefon", ";"]),
        ("Who\tMial\nAda\tx\n", vec!["Who", "Mial"]),
        ("Title\n\nFoo,E_Mal_Address,Bar\n1,2,3\n", vec!["E_Mal_Address"]),
        ("Emial,Nam\nada@example.com,Ada\n", vec!["Emial", "Nam", "email"]),
        ("Order,Amount\n1,2\n", vec!["Order", "Amount", "email"]),
    ] {
        let answer = refused(&api, LEADS, "", file).await;
        assert_eq!(answer["message"], "Invalid request parameters");
        let codes: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["code"]).collect();
        assert!(codes.contains(&&json!("missing_column")), "{answer}");
        let text = answer["errors"].to_string();
        for word in found {
            assert!(text.contains(word), "{word}: {answer}");
        }
    }
    assert_eq!(api.read("/dev/crm/jobs").await, json!([]));
}

#[tokio::test]
async fn what_is_no_table_is_refused_by_its_name() {
    let (api, _worker) = start().await;
    for (file, word) in [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n".as_slice(), "PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0".as_slice(), "xls"),
        (b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n".as_slice(), "HTML"),
        (b"".as_slice(), "empty"),
        (b"\n\r\n\n".as_slice(), "empty"),
    ] {
        let answer = refused(&api, LEADS, "", file).await;
        let text = answer["errors"].to_string().to_lowercase();
        assert!(text.contains(&word.to_lowercase()), "{word}: {answer}");
    }
    // A header without rows is a job.
    assert_eq!(count(&import(&api, LEADS, "", "Name,Email\n").await, "rows"), 0);
    let wide = format!("Name,Email{}\n", (0..999).map(|n| format!(",c{n}")).collect::<String>());
    refused(&api, LEADS, "", wide).await;
}

#[tokio::test]
async fn ragged_rows_and_rows_of_nothing_are_no_trouble() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Phone\nAda,ada@example.com\n,,\n\nBea,bea@example.com,1,,\nCid,cid@example.com,2,more\n , ,\nDan,dan@example.com,3\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 3, "failed": 1 }));
    let failed = reported(&api, &job, "failed").await;
    assert_eq!((&failed[0]["line"], &failed[0]["code"]), (&json!(6), &json!("too_many_cells")));
}

#[tokio::test]
async fn rejected_skipped_and_warned_rows_are_listed_and_can_be_corrected() {
    let (api, _worker) = start().await;
    import(&api, LEADS, "", "Name,Email\nOld,old@example.com\n").await;
    let file = "Name,Email,Score,Notes\nAda,ada@,5,\"two\nlines\"\nOld,old@example.com,6,x\nBea,bea@example.com,lots,y\nCid,cid@example.com,7,z\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "skipped": 1, "failed": 1, "warnings": 1 }));
    let of = async |outcomes: &str| -> Vec<(i64, String)> {
        let rows = reported(&api, &job, outcomes).await;
        rows.iter().map(|row| (row["line"].as_i64().unwrap(), row["outcome"].as_str().unwrap().to_owned())).collect()
    };
    let [failed, skipped, warned] = [(2, "failed".to_owned()), (4, "skipped".to_owned()), (5, "warned".to_owned())];
    assert_eq!(of("failed").await, std::slice::from_ref(&failed));
    assert_eq!(of("skipped").await, std::slice::from_ref(&skipped));
    assert_eq!(of("failed,skipped,warned").await, [failed.clone(), skipped, warned]);
    // Without the parameter, as before: the rejected rows.
    let plain = api.read(&format!("/dev/crm/jobs/{}/errors", id(&job))).await;
    assert_eq!(plain.as_array().unwrap().len(), 1);
    let row = json!({ "Name": "Ada", "Email": "ada@", "Score": "5", "Notes": "two\nlines" });
    assert_has(&plain[0], json!({ "line": 2, "outcome": "failed", "field": "email", "code": "invalid", "row": row }));

    let path = format!("/dev/crm/jobs/{}/errors?outcome=failed,skipped,warned", id(&job));
    let csv = api.get(&path).header("accept", "text/csv").send().await.unwrap().text().await.unwrap();
    assert!(csv.starts_with("Name,Email,Score,Notes,_line,_outcome,_faults\r\n"), "{csv}");
    let corrected = csv.replace("ada@,", "ada@example.com,").replace("lots", "70");
    let job = import(&api, LEADS, "on_conflict=update", corrected).await;
    assert_counts(&job, json!({ "created": 1, "updated": 2 }));
    let bea = person(&api, LEADS, "bea@example.com").await;
    assert_eq!((&bea["score"], &bea["custom_fields"]["_line"]), (&json!(70), &json!(null)));
}

#[tokio::test]
async fn what_an_import_did_can_be_paged_through() {
    let (api, _worker) = start().await;
    let before: String = (0..3).map(|n| format!("P{n},p{n}@example.com\n")).collect();
    import(&api, LEADS, "", format!("Name,Email\n{before}")).await;
    let rows: String = (0..8).map(|n| format!("Q{n},p{n}@example.com,{}\n", if n < 2 { "yes" } else { "" })).collect();
    let job = import(&api, LEADS, "on_conflict=update", format!("Name,Email,Do Not Email\n{rows}")).await;
    assert_counts(&job, json!({ "created": 5, "updated": 3, "suppressed": 2 }));
    let path = format!("/dev/crm/jobs/{}/records", id(&job));
    for (query, expected) in [
        ("", 10),
        ("?outcome=created", 5),
        ("?outcome=updated", 3),
        ("?outcome=suppressed", 2),
        ("?outcome=created,updated", 8),
        ("?limit=4", 4),
    ] {
        assert_eq!(api.read(&format!("{path}{query}")).await.as_array().unwrap().len(), expected, "{query}");
    }
    let first = api.get(&format!("{path}?limit=6")).send().await.unwrap();
    let cursor = first.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    let rest = api.read(&format!("{path}?limit=6&cursor={}", encoded(&cursor))).await;
    assert_eq!(rest.as_array().unwrap().len(), 4);
    let of_job = api.read(&format!("{LEADS}?import_job_id={}", id(&job))).await;
    assert_eq!(of_job.as_array().unwrap().len(), 5);
    let none = api.on("globex").await;
    support::json(none.get(&path), 404).await;
}

#[tokio::test]
async fn a_dry_run_answers_what_the_import_answers_then() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Status,Score,Email Opt Out\nAda,ada@example.com,Won,5,yes\nAda,ada@example.com,On Ice,lots,\nBea,bea@,New,6,\nTotal,,,,\n";
    let dry = import(&api, LEADS, "dry_run=true", file).await;
    assert_eq!(api.read(LEADS).await, json!([]));
    let job = import(&api, LEADS, "", file).await;
    for part in [
        "rows",
        "created",
        "updated",
        "skipped",
        "failed",
        "warnings",
        "suppressed",
        "unmatched",
        "mapping",
        "mapping_source",
        "delimiter",
        "encoding",
        "header_row",
    ] {
        assert!(!job["result"][part].is_null(), "{part} of {job}");
        assert_eq!(dry["result"][part], job["result"][part], "{part}");
    }
    assert_eq!(remarks(&api, &dry).await, remarks(&api, &job).await);
}
