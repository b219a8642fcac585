//! People who want no email are suppressed, as other systems say it.

use serde_json::json;

use super::*;

/// Imports a column of cells, and returns which of them suppressed their person.
async fn opted_out<'c>(api: &Api, list: &str, header: &str, cells: &[&'c str]) -> Vec<&'c str> {
    let (job, people) = column(api, list, "", header, cells).await;
    assert_eq!(mapping(&job)[header], "suppression", "{job}");
    let all = suppressed(api).await;
    let is_suppressed = |email: &Value| all.iter().any(|address| email == address);
    let out: Vec<&str> = cells
        .iter()
        .zip(&people)
        .filter(|(_, person)| is_suppressed(&person["email"]))
        .map(|(cell, _)| *cell)
        .collect();
    assert_eq!(count(&job, "suppressed"), i64::try_from(out.len()).unwrap(), "{header}: {job}");
    out
}

/// A mark in the column means that the person opted out.
#[tokio::test]
async fn a_mark_in_a_column_of_opt_outs_suppresses() {
    let (api, _worker) = start().await;
    let yes = ["true", "TRUE", "yes", "Yes", "1", "x", "X", "✓", "2021-05-06", "2021-05-06 07:08:09", "31.12.2023"];
    let no = ["false", "no", "0", "×", ""];
    let cells: Vec<&str> = yes.into_iter().chain(no).collect();
    for header in [
        "Unsubscribed from all email",
        "HasOptedOutOfEmail",
        "Email Opt Out",
        "Do Not Email",
        "UNSUB_TIME",
        "CLEAN_TIME",
        "has_opted_out_of_email",
        "hs_email_optout",
        "Opted Out",
        "Unsubscribed",
        "Unsubscribed Time",
    ] {
        for list in [LEADS, CUSTOMERS] {
            // A time of cleaning is a date, or absent.
            let cells: Vec<&str> = match header {
                "UNSUB_TIME" | "CLEAN_TIME" => vec!["2021-05-06 07:08:09", "2021-05-06", ""],
                _ => cells.clone(),
            };
            let expected: Vec<&str> = cells.iter().copied().filter(|cell| yes.contains(cell)).collect();
            assert_eq!(opted_out(&api, list, header, &cells).await, expected, "{header}");
        }
    }
}

#[tokio::test]
async fn a_refusal_in_a_column_of_consent_suppresses_and_an_empty_cell_says_nothing() {
    let (api, _worker) = start().await;
    let cells = ["no", "No", "FALSE", "0", "×", "yes", "TRUE", "1", "x", "✓", "2022-03-04", ""];
    for header in [
        "Accepts Email Marketing",
        "Accepts Marketing",
        "Email Opt In",
        "Marketing Consent",
        "Newsletter Consent",
        "Newsletter-Einwilligung",
        "Email Consent",
        "Opt In",
        "Opted In",
        "Consent",
    ] {
        assert_eq!(opted_out(&api, CUSTOMERS, header, &cells).await, ["no", "No", "FALSE", "0", "×"], "{header}");
    }
}

#[tokio::test]
async fn the_words_of_a_marketing_status_suppress() {
    let (api, _worker) = start().await;
    let cells = [
        "Unsubscribed",
        "No consent",
        "Non-marketing contact",
        "unsubscribed",
        "Cleaned",
        "Bounced",
        "Subscribed",
        "Marketing contact",
        "",
    ];
    for header in [
        "Marketing status",
        "Email Marketing",
        "Marketing contact status",
        "Person - Marketing status",
        "Email Marketing Status",
        "Subscription Status",
    ] {
        assert_eq!(opted_out(&api, LEADS, header, &cells).await, cells[..6], "{header}");
    }
}

#[tokio::test]
async fn reasons_and_dates_of_hard_bounces_suppress() {
    let (api, _worker) = start().await;
    for header in [
        "Email Hard Bounce Reason",
        "hs_email_hard_bounce_reason",
        "Email Bounced Reason",
        "Email Bounced Date",
        "Hard Bounce Date",
    ] {
        let cells = ["2021-05-06", ""];
        assert_eq!(opted_out(&api, LEADS, header, &cells).await, cells[..1], "{header}");
    }
    let reasons = ["Unknown user", "MAILBOX_FULL", ""];
    assert_eq!(opted_out(&api, LEADS, "Email Hard Bounce Reason", &reasons).await, reasons[..2]);
}

/// The words of the alias tables: a header, a cell that suppresses, and one that does not.
#[tokio::test]
async fn opt_outs_are_understood_in_many_languages() {
    let (api, _worker) = start().await;
    for (header, out, not) in [
        ("Abgemeldet", "ja", "nein"),
        ("Von allen E-Mails abgemeldet", "Ja", "Nein"),
        ("Désabonné", "oui", "non"),
        ("Désinscrit", "Oui", "Non"),
        ("Dado de baja", "sí", "no"),
        ("Descadastrado", "sim", "não"),
        ("Disiscritto", "sì", "no"),
        ("Afgemeld", "ja", "nee"),
        ("Wypisany", "tak", "nie"),
        ("Odhlášen", "ano", "ne"),
        ("Avregistrerad", "ja", "nej"),
        ("Afmeldt", "ja", "nej"),
        ("Avmeldt", "ja", "nei"),
        ("Отписан", "да", "нет"),
        ("Відписаний", "так", "ні"),
        ("配信停止", "はい", "いいえ"),
        ("수신거부", "예", "아니오"),
        ("已退订", "是", "否"),
        ("已取消訂閱", "是", "否"),
        ("Zgoda marketingowa", "nie", "tak"),
        ("メール配信希望", "いいえ", "はい"),
        ("Newsletter-Einwilligung", "nein", "ja"),
        ("Samtycke", "nej", "ja"),
    ] {
        assert_eq!(opted_out(&api, LEADS, header, &[out, not, ""]).await, [out], "{header}");
    }
}

#[tokio::test]
async fn statuses_that_forbid_contact_suppress_and_lose_the_lead() {
    let (api, _worker) = start().await;
    let cells = [
        "Do not contact",
        "DO NOT CONTACT",
        "Spam",
        "Bounced",
        "Do Not Contact",
        "Nicht kontaktieren",
        "Ne pas contacter",
        "No contactar",
        "Non contattare",
        "Niet contacteren",
        "連絡禁止",
        "Не беспокоить",
    ];
    let (job, people) = column(&api, LEADS, "", "Lead Status", &cells).await;
    assert_counts(&job, json!({ "created": 12, "suppressed": 12 }));
    for (cell, lead) in cells.iter().zip(&people) {
        assert_has(lead, json!({ "status": "lost", "custom_fields": { "Lead Status": cell } }));
    }
    let (job, _) = column(&api, LEADS, "", "Lead Status", &["Lost", "Unqualified", "Junk", "New"]).await;
    assert_eq!(count(&job, "suppressed"), 0, "a lost lead is not one that forbids contact");
}

#[tokio::test]
async fn an_opt_out_counts_whatever_becomes_of_its_row() {
    let (api, _worker) = start().await;
    let first = "Name,Email\nAl,al@example.com\nBo,bo@example.com\n";
    import(&api, LEADS, "", first).await;
    let file = "Name,Email,Email Opt Out,IsDeleted\nAl,al@example.com,yes,no\nCy,cy@example.com,yes,yes\nDi,di@example.com,yes,no\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 1, "skipped": 2, "suppressed": 3 }));
    assert_eq!(suppressed(&api).await, ["al@example.com", "cy@example.com", "di@example.com"]);

    // Again, and with the opposite: nothing is new, and nothing is lifted.
    let job = import(&api, LEADS, "", file).await;
    assert_eq!((count(&job, "skipped"), suppressed(&api).await.len()), (3, 3));
    let lifted = "Name,Email,Email Opt Out,Accepts Email Marketing\nAl,al@example.com,no,yes\n";
    import(&api, LEADS, "on_conflict=update", lifted).await;
    assert_eq!(suppressed(&api).await.len(), 3);

    // The proof of each is its job and its line.
    let records = api.read(&format!("/dev/crm/jobs/{}/records?outcome=suppressed", id(&job))).await;
    assert_eq!(records, json!([]), "the second import suppressed nobody");
}

#[tokio::test]
async fn a_dry_run_counts_opt_outs_and_suppresses_nobody() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Do Not Email\nAl,al@example.com,yes\nBo,bo@example.com,\n";
    let job = import(&api, LEADS, "dry_run=true", file).await;
    assert_counts(&job, json!({ "created": 2, "suppressed": 1 }));
    assert!(suppressed(&api).await.is_empty());
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "suppressed": 1 }));
    let stored = api.read(&format!("{SUPPRESSIONS}?email=al@example.com")).await;
    // The contract names the proof (job and line) without its fields.
    assert_eq!((&stored[0]["job_id"], &stored[0]["line"]), (&job["id"], &json!(2)), "{stored}");
}

#[tokio::test]
async fn undo_takes_back_the_suppressions_of_its_import_alone() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Do Not Email\nAl,al@example.com,yes\nBo,bo@example.com,yes\n";
    api.create(SUPPRESSIONS, json!({ "email": "bo@example.com" })).await;
    let job = import(&api, LEADS, "", file).await;
    assert_eq!(suppressed(&api).await, ["al@example.com", "bo@example.com"]);
    let undo = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&job))), 202).await;
    assert_eq!(api.ended(&undo).await["status"], "succeeded");
    assert_eq!(suppressed(&api).await, ["bo@example.com"]);
    assert_eq!(api.read(LEADS).await, json!([]));
}

#[tokio::test]
async fn columns_about_other_things_suppress_nobody() {
    let (api, _worker) = start().await;
    for (header, cell) in [
        ("Accepts SMS Marketing", "no"),
        ("Tax Exempt", "no"),
        ("Do Not Call", "yes"),
        ("UNSUB_REASON", "No longer interested"),
        ("HasOptedOutOfFax", "true"),
        ("Email Opens", "0"),
        ("Subscription Plan", "none"),
        ("Active", "no"),
        ("Verified", "false"),
        ("Number of Unsubscribes", "1"),
    ] {
        let (job, people) = column(&api, LEADS, "", header, &[cell]).await;
        assert_eq!(count(&job, "suppressed"), 0, "{header}: {job}");
        assert_eq!(people[0]["custom_fields"], json!({ header: cell }));
    }
    assert!(suppressed(&api).await.is_empty());
}
