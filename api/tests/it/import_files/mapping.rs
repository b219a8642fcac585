//! What the caller says of the columns, and what is remembered of it.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_given_mapping_wins_over_what_is_detected() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Phone,Memo,Secret,Rank\nAda,ada@example.com,+1,hello,x,7\n";
    let given = json!({ "Phone": "custom_fields.tel", "Memo": "company", "Secret": null, "Rank": "score" });
    let job = import(&api, LEADS, &option("mapping", &given), file).await;
    assert_eq!(job["result"]["mapping_source"], "given");
    let expected = json!({ "Name": "name", "Email": "email", "Phone": "custom_fields.tel", "Memo": "company",
        "Secret": null, "Rank": "score" });
    assert_eq!(*mapping(&job), expected);
    let ada =
        json!({ "phone": null, "company": "hello", "score": 7, "custom_fields": { "tel": "+1", "Secret": null } });
    assert_has(&only(&api, LEADS, &job).await, ada);
}

#[tokio::test]
async fn a_mapping_is_remembered_for_files_with_the_same_headers() {
    let (api, _worker) = start().await;
    let file = |n: i32| format!("Wer,Wo,Was\nAda,ada{n}@example.com,7\n");
    let given = option("mapping", &json!({ "Wer": "name", "Wo": "email", "Was": "score" }));
    refused(&api, LEADS, "", file(1)).await;
    // Without `save_mapping` nothing is remembered.
    import(&api, LEADS, &given, file(1)).await;
    refused(&api, LEADS, "", file(2)).await;
    let job = import(&api, LEADS, &format!("{given}&save_mapping=true"), file(2)).await;
    assert_eq!(job["result"]["mapping_source"], "given");

    let job = import(&api, LEADS, "", file(3)).await;
    assert_eq!(job["result"]["mapping_source"], "saved");
    assert_has(&only(&api, LEADS, &job).await, json!({ "name": "Ada", "email": "ada3@example.com", "score": 7 }));
    refused(&api, LEADS, "mapping=none", file(4)).await;
    // Other headers, another kind of record, and another workspace remember nothing of it.
    refused(&api, LEADS, "", file(4).replace("Was", "Wozu")).await;
    refused(&api, CUSTOMERS, "", file(4)).await;
    let api = api.on("globex").await;
    refused(&api, LEADS, "", file(4)).await;
    let job = import(&api, LEADS, "", "Name,Email\nAda,ada@example.com\n").await;
    assert_eq!(job["result"]["mapping_source"], "detected");
}

#[tokio::test]
async fn a_mapping_of_unknown_fields_or_headers_is_refused() {
    let (api, _worker) = start().await;
    let file = "Name,Email\nAda,ada@example.com\n";
    for (given, field) in [
        (json!({ "Name": "nom" }), "mapping.Name"),
        (json!({ "Name": "credit_limit" }), "mapping.Name"),
        (json!({ "Email": "Email" }), "mapping.Email"),
    ] {
        let answer = refused(&api, LEADS, &option("mapping", &given), file).await;
        assert_eq!(answer["errors"][0]["field"], field, "{answer}");
    }
    for given in [json!([]), json!("name"), json!(7)] {
        let answer = refused(&api, LEADS, &option("mapping", &given), file).await;
        assert_eq!(answer["errors"][0]["field"], "mapping", "{answer}");
    }
}

#[tokio::test]
async fn set_gives_every_row_a_value_and_wins_over_its_cell() {
    let (api, _worker) = start().await;
    let sam = user(&api, "Sam", "sam@example.com").await;
    let file = "Name,Email,Source,Batch\nAda,ada@example.com,Facebook,old\nBea,bea@example.com,,\n";
    let set = json!({ "source": "campaign", "assigned_to": "sam@example.com", "custom_fields.Batch": "fair 2024" });
    let job = import(&api, LEADS, &option("set", &set), file).await;
    assert_counts(&job, json!({ "created": 2 }));
    for lead in created(&api, LEADS, &job).await {
        assert_has(
            &lead,
            json!({ "source": "campaign", "assigned_to": sam, "custom_fields": { "Batch": "fair 2024" } }),
        );
    }
    // In an update as well.
    let set = option("set", &json!({ "score": 9 }));
    import(&api, LEADS, &format!("on_conflict=update&{set}"), "Email,Score\nada@example.com,5\n").await;
    assert_eq!(person(&api, LEADS, "ada@example.com").await["score"], 9);

    for set in [json!({ "colour": "red" }), json!({ "score": 900 }), json!({ "status": "on ice" }), json!([])] {
        let answer = refused(&api, LEADS, &option("set", &set), file).await;
        assert!(answer["errors"][0]["field"].as_str().unwrap().starts_with("set"), "{answer}");
    }
}

#[tokio::test]
async fn columns_that_match_nothing_are_kept_or_dropped() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Shoe Size,Last Contact\nAda,ada@example.com,38,2024-01-02\nBea,bea@example.com,,\n";
    let job = import(&api, LEADS, "dry_run=true", file).await;
    assert_mapping(&job, &[("Shoe Size", "custom_fields.Shoe Size")]);
    let job = import(&api, LEADS, "unmapped=ignore", file).await;
    assert_eq!(mapping(&job)["Shoe Size"], json!(null));
    let ada = person(&api, LEADS, "ada@example.com").await;
    assert_has(&ada, json!({ "custom_fields": {}, "last_contact": "2024-01-02T00:00:00Z" }));
    let job = import(&api, LEADS, "on_conflict=update", file).await;
    assert_counts(&job, json!({ "updated": 2 }));
    // Empty cells are not stored.
    assert_eq!(person(&api, LEADS, "ada@example.com").await["custom_fields"], json!({ "Shoe Size": "38" }));
    assert_eq!(person(&api, LEADS, "bea@example.com").await["custom_fields"], json!({}));
}
