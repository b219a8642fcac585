//! Stages and sources of leads in the words of other systems.

use serde_json::{Value, json};

use super::*;

/// Imports a column of values; returns what became of each, or the text if it was reported as unmatched.
async fn read(api: &Api, header: &str, field: &str, texts: &[&str]) -> (Value, Vec<String>) {
    let (job, people) = column(api, LEADS, "", header, texts).await;
    let unmatched = &job["result"]["unmatched"][header];
    let reported: i64 = unmatched.as_object().map_or(0, |texts| texts.values().map(|n| n.as_i64().unwrap()).sum());
    assert_eq!(reported, count(&job, "warnings"), "{job}");
    let value = |(text, lead): (&&str, &Value)| {
        let value = lead[field].as_str().unwrap();
        // The text is kept, matched or not, unless it is the value itself.
        let is_value = value.eq_ignore_ascii_case(text) && unmatched[*text].is_null();
        let kept = if is_value { Value::Null } else { json!(text) };
        assert_eq!(lead["custom_fields"][header], kept, "{lead}");
        if unmatched[*text].is_null() { value.to_owned() } else { format!("? {text}") }
    };
    let values = texts.iter().zip(&people).map(value).collect();
    (job, values)
}

/// Case `status-variants`.
#[tokio::test]
async fn stages_and_sources_of_other_systems_are_understood() {
    let (api, _worker) = start().await;
    let stages = [
        ("NEW", "new"),
        ("Open", "new"),
        ("open deal", "qualified"),
        ("Working", "contacted"),
        ("Nurturing", "contacted"),
        ("Unqualified", "lost"),
        ("Disqualified", "lost"),
        ("Attempted to contact", "contacted"),
        ("Connected", "contacted"),
        ("Demo scheduled", "qualified"),
        ("Contract sent", "negotiation"),
        ("Closed won", "won"),
        ("Closed lost", "lost"),
        ("Customer", "won"),
        ("Do not contact", "lost"),
        ("Spam", "lost"),
        ("SQL", "qualified"),
        ("MQL", "qualified"),
        ("Dead", "lost"),
        ("In Progress", "contacted"),
        ("Meeting Booked", "qualified"),
        ("Won!", "won"),
    ];
    let (job, read_stages) = read(&api, "Status", "status", &stages.map(|(text, _)| text)).await;
    assert_eq!(read_stages, stages.map(|(_, status)| status));
    // Do not contact, and Spam.
    assert_counts(&job, json!({ "created": 22, "suppressed": 2 }));

    let sources = [
        ("Website", "website"),
        ("web", "website"),
        ("Event", "campaign"),
        ("Trade show", "campaign"),
        ("Newsletter", "email"),
        ("SEO", "website"),
        ("LinkedIn", "social"),
        ("Instagram", "social"),
        ("Word of mouth", "referral"),
        ("Walk-in", "direct"),
        ("Purchased list", "other"),
        ("Phone", "direct"),
        ("Unknown", "other"),
        ("Partner", "referral"),
        ("PPC", "campaign"),
        ("YouTube", "social"),
        ("E-Mail", "email"),
        ("Cold call", "direct"),
        ("Advertisement", "campaign"),
        ("N/A", "other"),
    ];
    let (job, read_sources) = read(&api, "Source", "source", &sources.map(|(text, _)| text)).await;
    assert_eq!(read_sources, sources.map(|(_, source)| source));
    assert_counts(&job, json!({ "created": 20 }));

    // Texts that may have an alias or not: they are kept, and without an alias they are reported.
    let (_, texts) = read(&api, "Status", "status", &["Bad timing", "1 - New"]).await;
    assert_ne!(texts[0], "new", "a value that is not understood is never the default without a word");
    read(&api, "Source", "source", &["Inbound", "Outbound", "Google", "Existing customer"]).await;
}

#[tokio::test]
async fn stages_of_many_systems_and_languages_are_understood() {
    let (api, _worker) = start().await;
    let stages = [
        // Salesforce, HubSpot, Zoho, Pipedrive, Odoo
        ("Open - Not Contacted", "new"),
        ("Working - Contacted", "contacted"),
        ("Closed - Converted", "converted"),
        ("Closed - Not Converted", "lost"),
        ("Marketing Qualified Lead", "qualified"),
        ("Sales Qualified Lead", "qualified"),
        ("Not Contacted", "new"),
        ("Contact Made", "contacted"),
        ("Proposal Made", "proposal"),
        ("Proposition", "proposal"),
        ("Negotiations Started", "negotiation"),
        ("Negotiation/Review", "negotiation"),
        ("closedwon", "won"),
        ("CLOSED_LOST", "lost"),
        ("Closed-Won", "won"),
        ("contacted", "contacted"),
        // Their users
        ("Neu", "new"),
        ("Kontaktiert", "contacted"),
        ("Gewonnen", "won"),
        ("Verloren", "lost"),
        ("Nouveau", "new"),
        ("Gagné", "won"),
        ("Perdu", "lost"),
        ("Nuevo", "new"),
        ("Ganado", "won"),
        ("Perdido", "lost"),
        ("Nuovo", "new"),
        ("Vinto", "won"),
        ("Nieuw", "new"),
        ("Gewonnen", "won"),
        ("Nowy", "new"),
        ("Ganho", "won"),
        ("Ny", "new"),
        ("Новый", "new"),
        ("新規", "new"),
        ("受注", "won"),
        ("신규", "new"),
        ("已成交", "won"),
    ];
    let texts = stages.map(|(text, _)| text);
    let (job, read) = read(&api, "Lead Status", "status", &texts).await;
    assert_eq!(read, stages.map(|(_, status)| status), "{job}");
}

#[tokio::test]
async fn sources_of_many_systems_and_languages_are_understood() {
    let (api, _worker) = start().await;
    let sources = [
        ("Organic Search", "website"),
        ("Paid Search", "campaign"),
        ("Direct Traffic", "direct"),
        ("Referrals", "referral"),
        ("Organic Social", "social"),
        ("Paid Social", "social"),
        ("Email Marketing", "email"),
        ("Offline Sources", "other"),
        ("Phone Inquiry", "direct"),
        ("Partner Referral", "referral"),
        ("Cold Call", "direct"),
        ("Webinar", "campaign"),
        ("Facebook", "social"),
        ("Messe", "campaign"),
        ("Empfehlung", "referral"),
        ("Webseite", "website"),
        ("Salon", "campaign"),
        ("Recommandation", "referral"),
        ("Feria", "campaign"),
        ("Recomendación", "referral"),
        ("Fiera", "campaign"),
        ("Passaparola", "referral"),
        ("Beurs", "campaign"),
        ("Polecenie", "referral"),
        ("展示会", "campaign"),
        ("紹介", "referral"),
        ("REFERRAL", "referral"),
        ("campaign", "campaign"),
    ];
    let (job, read) = read(&api, "Lead Source", "source", &sources.map(|(text, _)| text)).await;
    assert_eq!(read, sources.map(|(_, source)| source), "{job}");
}

#[tokio::test]
async fn unknown_values_are_counted_by_column_and_can_be_looked_up() {
    let (api, _worker) = start().await;
    let row = |n: usize| {
        format!("P{n},u{n:03}@example.com,{},{}\n", if n < 70 { "On Ice" } else { "Carried" }, ["Pigeon", "web"][n % 2])
    };
    let file = format!("Name,Email,Deal Stage,Lead Source\n{}", (0..100).map(row).collect::<String>());
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 100, "warnings": 150 }));
    let expected = json!({ "Deal Stage": { "On Ice": 70, "Carried": 30 }, "Lead Source": { "Pigeon": 50 } });
    assert_eq!(job["result"]["unmatched"], expected);
    let filtered = api.read(&format!("{LEADS}?custom.Deal%20Stage=Carried")).await;
    assert_eq!(filtered.as_array().unwrap().len(), 30);
    let first = &reported(&api, &job, "warned").await[0];
    assert_eq!((&first["line"], first["faults"].as_array().unwrap().len()), (&json!(2), 2), "{first}");

    // The hundred most frequent of a column.
    let row = |n: i32| (0..=n).map(|m| format!("P,w{n}.{m}@example.com,stage {n:03}\n")).collect::<String>();
    let file = format!("Name,Email,Status\n{}", (0..120).map(row).collect::<String>());
    let job = import(&api, LEADS, "", file).await;
    let unmatched = job["result"]["unmatched"]["Status"].as_object().unwrap();
    assert_eq!((unmatched.len(), &unmatched["stage 119"], unmatched.get("stage 019")), (100, &json!(120), None));
}

#[tokio::test]
async fn the_lifecycle_stage_steps_in_for_the_status() {
    let (api, _worker) = start().await;
    for (n, (status, lifecycle, expected)) in [
        ("", "Customer", "won"),
        ("", "Subscriber", "new"),
        ("", "Lead", "new"),
        ("", "Marketing Qualified Lead", "qualified"),
        ("", "Opportunity", "qualified"),
        ("", "Evangelist", "won"),
        ("", "", "new"),
        ("In Progress", "Customer", "contacted"),
        ("On Ice", "Customer", "won"),
        ("Unqualified", "Lead", "lost"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("Name,Email,Lifecycle Stage,Lead Status\nLi,li{n}@example.com,{lifecycle},{status}\n");
        let job = import(&api, LEADS, "", file).await;
        let lead = only(&api, LEADS, &job).await;
        assert_eq!(lead["status"], expected, "{status} {lifecycle}: {lead}");
        if !status.is_empty() {
            assert_eq!(lead["custom_fields"]["Lead Status"], status);
        }
    }
}

#[tokio::test]
async fn types_and_states_of_customers_are_understood() {
    let (api, _worker) = start().await;
    for (header, field, cells) in [
        (
            "Type",
            "type",
            vec![
                ("Company", "business"),
                ("Person", "individual"),
                ("BUSINESS", "business"),
                ("Individual", "individual"),
            ],
        ),
        ("Customer Type", "type", vec![("Business", "business"), ("Private", "individual")]),
        ("Kundentyp", "type", vec![("Firma", "business"), ("Privatperson", "individual")]),
        ("Status", "status", vec![("Active", "active"), ("Inactive", "inactive"), ("Blocked", "blocked")]),
        ("Kundenstatus", "status", vec![("Aktiv", "active"), ("Inaktiv", "inactive"), ("Gesperrt", "blocked")]),
    ] {
        let texts: Vec<&str> = cells.iter().map(|(text, _)| *text).collect();
        let (job, people) = column(&api, CUSTOMERS, "", header, &texts).await;
        for ((text, value), customer) in cells.iter().zip(&people) {
            assert_eq!(customer[field], *value, "{header} {text}: {job}");
        }
    }
}
