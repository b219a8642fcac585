//! How a row finds its record, and what happens if it does.

use serde_json::json;

use super::*;

/// Case `update-only-email-score`.
#[tokio::test]
async fn an_address_and_a_score_are_a_complete_file_of_updates() {
    let (api, _worker) = start().await;
    let file = "Email,Score\r\nonly.score@example.com,60\r\n";
    // Without any name, a file only updates: nobody is created.
    for query in ["", "on_conflict=update", "create=false"] {
        let job = import(&api, LEADS, query, file).await;
        assert_counts(&job, json!({ "failed": 1 }));
        assert_eq!(remarks(&api, &job).await, ["2 failed not_found"], "{query}");
    }
    api.create(LEADS, json!({ "name": "Una", "email": "Only.Score@example.com", "score": 1, "notes": "kept" })).await;
    assert_counts(&import(&api, LEADS, "on_conflict=update", file).await, json!({ "updated": 1 }));
    // The address is now written as in the file.
    let una = json!({ "name": "Una", "email": "only.score@example.com", "score": 60, "notes": "kept" });
    assert_has(&person(&api, LEADS, "only.score@example.com").await, una);
}

/// Case `company-only`. The contract says that a file without a name column only updates, and that people without
/// a name take their company: here a column of companies counts as one of names.
#[tokio::test]
async fn a_company_without_a_person_is_named_by_itself() {
    let (api, _worker) = start().await;
    let file = "Company,Email,Type\r\nBolt Ltd,info@bolt.example.com,Company\r\n";
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 1 }));
    let expected = json!({ "name": "Bolt Ltd", "company": "Bolt Ltd", "type": "business" });
    assert_has(&only(&api, CUSTOMERS, &job).await, expected);
}

#[tokio::test]
async fn people_without_a_name_take_the_company_or_the_address() {
    let (api, _worker) = start().await;
    for (n, (file, name)) in [
        ("Name,Company,Email\n,Acme,{}\n", "Acme"),
        ("Name,Company,Email\n,,{}\n", "n"),
        ("Name,Email\n,{}\n", "n"),
        ("First Name,Last Name,Company,Email\n,,Acme,{}\n", "Acme"),
        ("First Name,Last Name,Email\n,,{}\n", "n"),
        ("First Name,Last Name,Company,Email\nAda,,Acme,{}\n", "Ada"),
        ("First Name,Last Name,Company,Email\n,Byron,Acme,{}\n", "Byron"),
        ("Vorname;Nachname;Firma;E-Mail\n;;Acme GmbH;{}\n", "Acme GmbH"),
        ("Nom;Société;Courriel\n;Acme SA;{}\n", "Acme SA"),
        ("氏名,会社名,メールアドレス\n,株式会社ソラ,{}\n", "株式会社ソラ"),
    ]
    .into_iter()
    .enumerate()
    {
        for list in [LEADS, CUSTOMERS] {
            let job = import(&api, list, "", file.replace("{}", &format!("n@{n}.example.com"))).await;
            assert_counts(&job, json!({ "created": 1 }));
            assert_eq!(only(&api, list, &job).await["name"], name, "{file}");
        }
    }
}

#[tokio::test]
async fn ids_of_other_systems_become_external_ids() {
    let (api, _worker) = start().await;
    for (n, header) in [
        "Record ID",
        "Lead ID",
        "Id",
        "ID",
        "External ID",
        "Person - ID",
        "external_id",
        "Contact ID",
        "Datensatz-ID",
        "レコードID",
    ]
    .into_iter()
    .enumerate()
    {
        let cell = format!("00Q{n}");
        let (job, people) = column(&api, LEADS, "", header, &[cell.as_str(), ""]).await;
        assert_has(&people[0], json!({ "external_id": cell, "custom_fields": {} }));
        assert_eq!(people[1]["external_id"], json!(null), "{job}");
    }
}

#[tokio::test]
async fn with_an_id_as_the_key_an_address_can_change() {
    let (api, _worker) = start().await;
    for list in [LEADS, CUSTOMERS] {
        import(&api, list, "", "Record ID,Name,Email\n1,Ann,ann@example.com\n2,Bob,bob@example.com\n").await;
        let ann = person(&api, list, "ann@example.com").await;
        let moved = "Record ID,Name,Email\n1,Ann,ann@new.example.com\n3,Cid,cid@example.com\n";
        let job = import(&api, list, "key=external_id&on_conflict=update", moved).await;
        assert_counts(&job, json!({ "created": 1, "updated": 1 }));
        assert_has(&person(&api, list, "ann@new.example.com").await, json!({ "id": ann["id"], "external_id": "1" }));

        let file = format!("id,email\n{},ann@third.example.com\n", id(&ann));
        let job = import(&api, list, "key=id&on_conflict=update&create=false", file).await;
        assert_counts(&job, json!({ "updated": 1 }));
        assert_has(&person(&api, list, "ann@third.example.com").await, json!({ "id": ann["id"], "name": "Ann" }));

        // An address that another record has stays with it.
        let job =
            import(&api, list, "key=external_id&on_conflict=update", "Record ID,Name,Email\n1,Ann,bob@example.com\n")
                .await;
        assert_counts(&job, json!({ "failed": 1 }));
        assert_eq!(remarks(&api, &job).await, ["2 failed taken"]);
        // A key that is missing rejects the row, an address does not.
        let job =
            import(&api, list, "key=external_id&on_conflict=update", "Record ID,Name,Phone\n1,Ann,+1\n,Nobody,+2\n")
                .await;
        assert_counts(&job, json!({ "updated": 1, "failed": 1 }));
    }
}

#[tokio::test]
async fn a_conflict_skips_updates_or_fails() {
    let (api, _worker) = start().await;
    let first = "Name,Email,Phone,Plan\nAnn,ann@example.com,+1,gold\n";
    let again =
        "Name,Email,Phone,Tier\nAnn Lee,ANN@example.com,,a\nBob,bob@example.com,+2,b\nBob Two,bob@example.com,+3,\n";
    for list in [LEADS, CUSTOMERS] {
        import(&api, list, "", first).await;
        let job = import(&api, list, "dry_run=true", again).await;
        assert_counts(&job, json!({ "created": 1, "skipped": 2 }));
        let job = import(&api, list, "dry_run=true&on_conflict=fail", again).await;
        assert_counts(&job, json!({ "created": 1, "failed": 2 }));
        assert_eq!(remarks(&api, &job).await, ["2 failed taken", "4 failed taken"]);
        let job = import(&api, list, "dry_run=true&on_conflict=update&create=false", again).await;
        assert_counts(&job, json!({ "updated": 1, "failed": 2 }));
        assert_eq!(remarks(&api, &job).await, ["3 failed not_found", "4 failed not_found"]);
        let job = import(&api, list, "on_conflict=update", again).await;
        assert_counts(&job, json!({ "created": 1, "updated": 2 }));
        let ann = json!({ "name": "Ann Lee", "phone": "+1", "custom_fields": { "Plan": "gold", "Tier": "a" } });
        assert_has(&person(&api, list, "ann@example.com").await, ann);
        let bob = json!({ "name": "Bob Two", "phone": "+3", "custom_fields": { "Tier": "b" } });
        assert_has(&person(&api, list, "bob@example.com").await, bob);

        // An unchanged match counts as updated and writes nothing.
        let before = api.read(list).await;
        let same = "Name,Email,Phone\nAnn Lee,ANN@example.com,+1\n";
        assert_counts(&import(&api, list, "on_conflict=update", same).await, json!({ "updated": 1 }));
        assert_eq!(api.read(list).await, before);
    }
}

/// Case `undo-twice-same-ids`.
#[tokio::test]
async fn a_file_with_ids_is_imported_and_undone_again_and_again() {
    let (api, _worker) = start().await;
    let file = "id,name,email\n6c8e94f5-40d6-4f6e-8abb-51c3aa6038fe,Ulla Do,ulla.do@example.com\n";
    for list in [LEADS, CUSTOMERS] {
        for round in 1..=3 {
            let job = import(&api, list, "", file).await;
            assert_counts(&job, json!({ "created": 1 }));
            let ulla = person(&api, list, "ulla.do@example.com").await;
            assert_eq!(id(&ulla), "6c8e94f5-40d6-4f6e-8abb-51c3aa6038fe", "round {round}");
            let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 202).await;
            let undo = api.ended(&undo).await;
            assert_eq!((&undo["status"], &undo["result"]["removed"]), (&json!("succeeded"), &json!(1)), "{undo}");
            assert_eq!(api.read(list).await, json!([]), "round {round}");
        }
    }
}
