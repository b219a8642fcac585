//! Headers are matched whatever their case, accents, width, spaces, punctuation and invisible characters.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_header_is_recognised_in_any_dress() {
    let (api, _worker) = start().await;
    for (header, field) in [
        ("LAST CONTACT", "last_contact"),
        ("last-contact", "last_contact"),
        ("Last_Contact", "last_contact"),
        ("lastContact", "last_contact"),
        ("  Last   Contact  ", "last_contact"),
        ("Last Contact:", "last_contact"),
        ("*Phone", "phone"),
        ("Phone (required)", "custom_fields.Phone (required)"),
        ("Ｐｈｏｎｅ", "phone"),
        ("Pho\u{200b}ne", "phone"),
        ("\u{a0}Phone\u{a0}", "phone"),
        ("Phone.", "phone"),
        ("Telephone", "phone"),
        ("Téléphone", "phone"),
        ("TELEPHONE", "phone"),
        ("Te\u{301}le\u{301}phone", "phone"),
        ("Société", "company"),
        ("SOCIETE", "company"),
        ("Größe", "custom_fields.Größe"),
        ("Company / Account", "company"),
        ("Company/Account", "company"),
        ("Lead  Source", "source"),
        ("LEAD_SOURCE", "source"),
        ("leadsource", "source"),
        ("電話番号", "phone"),
        ("ｽﾃｰﾀｽ", "status"),
    ] {
        let job = import(&api, LEADS, "dry_run=true", with_column(header, &[""])).await;
        let others =
            mapping(&job).as_object().unwrap().iter().filter(|(header, _)| *header != "Name" && *header != "Email");
        let fields: Vec<&str> = others.map(|(_, field)| field.as_str().unwrap()).collect();
        assert_eq!(fields, [field], "{header:?}");
    }
}

/// Words that look like a field and are none: a wrong field would be a wrong value.
#[tokio::test]
async fn a_header_that_means_something_else_stays_a_custom_field() {
    let (api, _worker) = start().await;
    for header in [
        "Email Opens",
        "Email Status Date",
        "Phone Type",
        "Company Size",
        "Company ID",
        "Source Campaign ID",
        "Status Reason",
        "Score Trend",
        "MEMBER_RATING",
        "Number of Notes",
        "Next Activity Date",
        "Birthday",
        "Job Title",
        "Country",
        "Annual Revenue",
        "Last Order Date",
        "Parent Company",
        "Fax",
        "Website",
        "Tags",
        "E-mail 1 - Label",
        "Name Prefix",
        "Nickname",
        "LEID",
    ] {
        for list in [LEADS, CUSTOMERS] {
            let job = import(&api, list, "dry_run=true", with_column(header, &["x"])).await;
            assert_eq!(mapping(&job)[header], format!("custom_fields.{header}"), "{list}");
        }
    }
}

#[tokio::test]
async fn a_header_of_the_other_kind_of_record_is_a_custom_field() {
    let (api, _worker) = start().await;
    let file =
        "Name,Email,Score,Last Contact,Credit Limit,Tax ID,Billing Address\nAda,ada@example.com,5,2024-01-02,100,X,Y\n";
    let job = import(&api, LEADS, "", file).await;
    let custom = json!({ "Credit Limit": "100", "Tax ID": "X", "Billing Address": "Y" });
    assert_eq!(only(&api, LEADS, &job).await["custom_fields"], custom);
    let job = import(&api, CUSTOMERS, "", file).await;
    let ada = only(&api, CUSTOMERS, &job).await;
    assert_eq!(ada["custom_fields"], json!({ "Score": "5", "Last Contact": "2024-01-02" }));
    assert_has(&ada, json!({ "credit_limit": 100, "tax_id": "X", "billing_address": "Y" }));
}

#[tokio::test]
async fn fallback_columns_step_in_and_are_kept_otherwise() {
    let (api, _worker) = start().await;
    for (best, fallback, field) in [
        ("Phone", "Mobile", "phone"),
        ("Phone Number", "Mobile Phone Number", "phone"),
        ("Business Phone", "Home Phone", "phone"),
        ("Person - Phone - Work", "Person - Phone - Mobile", "phone"),
        ("Telefon", "Mobiltelefon", "phone"),
        ("Téléphone", "Portable", "phone"),
        ("Phone 1 - Value", "Phone 2 - Value", "phone"),
        ("Company Name", "Associated Company", "company"),
        ("Notes", "Description", "notes"),
        ("Phone", "Default Address Phone", "phone"),
    ] {
        for (headers, in_order) in [([best, fallback], true), ([fallback, best], false)] {
            let row = |n: i32, cells: [&str; 2]| {
                let [first, second] = if in_order { cells } else { [cells[1], cells[0]] };
                format!("P;p{n}@{}.example.com;{first};{second}\n", Uuid::now_v7().simple())
            };
            let file =
                format!("Name;Email;{};{}\n{}{}", headers[0], headers[1], row(1, ["a1", "b1"]), row(2, ["", "b2"]));
            let job = import(&api, LEADS, "", file).await;
            assert_mapping(&job, &[(best, field), (fallback, field)]);
            let people = created(&api, LEADS, &job).await;
            assert_eq!(
                (&people[0][field], &people[0]["custom_fields"]),
                (&json!("a1"), &json!({ fallback: "b1" })),
                "{best}"
            );
            assert_eq!((&people[1][field], &people[1]["custom_fields"]), (&json!("b2"), &json!({})), "{best}");
        }
    }
}
