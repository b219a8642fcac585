//! Whoever another system knows as opted out is never emailed, however often its files are imported.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;
use crate::workflows::{days_pass, run};

/// How a system writes the export of its people: the header, and a row from the number of a person, the address, and
/// whether the person opted out.
struct Export {
    system: &'static str,
    list: &'static str,
    header: &'static str,
    row: fn(usize, &str, bool) -> String,
}

const EXPORTS: [Export; 10] = [
    Export {
        system: "HubSpot, contacts",
        list: LEADS,
        header: "Record ID,First Name,Last Name,Email,Unsubscribed from all email,Lifecycle Stage,Create Date",
        row: |n, email, out| {
            format!("{n},Ann,Hub{n},{email},{},Lead,2024-03-0{} 09:30", if out { "true" } else { "" }, n % 9 + 1)
        },
    },
    Export {
        system: "HubSpot, marketing contacts",
        list: LEADS,
        header: "Record ID,First Name,Last Name,Email,Marketing contact status",
        row: |n, email, out| {
            let status = if out { "Non-marketing contact" } else { "Marketing contact" };
            format!("7{n:06},Ann,Market{n},{email},{status}")
        },
    },
    Export {
        system: "Salesforce, report",
        list: LEADS,
        header: "Lead ID,First Name,Last Name,Company / Account,Email,Email Opt Out,Lead Status",
        row: |n, email, out| format!("00Q{n:012},Ann,Sales{n},Acme,{email},{},Open - Not Contacted", u8::from(out)),
    },
    Export {
        system: "Salesforce, Data Loader",
        list: LEADS,
        header: "\"ID\",\"FIRSTNAME\",\"LASTNAME\",\"COMPANY\",\"EMAIL\",\"HASOPTEDOUTOFEMAIL\"",
        row: |n, email, out| format!("\"00R{n:012}\",\"Ann\",\"Load{n}\",\"Acme\",\"{email}\",\"{out}\""),
    },
    Export {
        system: "Mailchimp, unsubscribed or subscribed",
        list: LEADS,
        header: "Email Address,First Name,Last Name,OPTIN_TIME,UNSUB_TIME",
        row: |n, email, out| {
            let time = if out { "2024-05-06 07:08:09" } else { "" };
            format!("{email},Ann,Chimp{n},2023-01-02 03:04:05,{time}")
        },
    },
    Export {
        system: "Mailchimp, cleaned",
        list: LEADS,
        header: "Email Address,First Name,Last Name,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE",
        row: |n, email, out| {
            let cells = if out { "2024-05-06 07:08:09,Spring" } else { "," };
            format!("{email},Ann,Clean{n},{cells}")
        },
    },
    Export {
        system: "Shopify, customers",
        list: CUSTOMERS,
        header: "Customer ID,First Name,Last Name,Email,Accepts Email Marketing,Total Spent",
        row: |n, email, out| format!("'61{n},Ann,Shop{n},{email},{},12.50", if out { "no" } else { "yes" }),
    },
    Export {
        system: "Pipedrive, people",
        list: LEADS,
        header: "Person - Name,Person - Email - Work,Person - Marketing status",
        row: |n, email, out| format!("Ann Pipe{n},{email},{}", if out { "Unsubscribed" } else { "Subscribed" }),
    },
    Export {
        system: "Zoho, leads",
        list: LEADS,
        header: "Record Id,First Name,Last Name,Email,Email Opt Out,Lead Status",
        row: |n, email, out| format!("zcrm_{n},Ann,Zoho{n},{email},{out},Attempted to Contact"),
    },
    Export {
        system: "Zoho, statuses",
        list: LEADS,
        header: "Record Id,First Name,Last Name,Email,Lead Status",
        row: |n, email, out| {
            let status = if out { "Do not contact" } else { "Not Contacted" };
            format!("zcrm_9{n:06},Ann,Status{n},{email},{status}")
        },
    },
];

/// How many people an export has; every tenth opted out.
fn people() -> usize {
    if testing::is_thorough() { 1_000 } else { 60 }
}

/// The addresses of an export, and its file. Those of the opted out are written as people and programs write them.
fn file(export: &Export, place: usize) -> (Vec<(String, bool)>, String) {
    let mut people: Vec<(String, bool)> = Vec::new();
    let mut file = format!("{}\n", export.header);
    for n in 0..self::people() {
        let (address, out) = (format!("person{n}.{place}@example.com"), n % 10 == 3);
        let written = match n / 10 % 4 {
            0 if out => address.to_uppercase(),
            1 if out => format!("mailto:{address}"),
            2 if out => format!("Ann <{address}>"),
            _ => address.clone(),
        };
        writeln!(file, "{}", (export.row)(n, &written, out)).unwrap();
        people.push((address, out));
    }
    (people, file)
}

#[tokio::test]
async fn the_opted_out_are_not_emailed_in_thirty_nights() {
    let (api, _worker) = start().await;
    let (mut out, mut leads) = (BTreeSet::new(), BTreeSet::new());
    for (place, export) in EXPORTS.iter().enumerate() {
        let (people, file) = file(export, place);
        let enroll = if export.list == LEADS { "&enroll=true" } else { "" };
        for (time, query) in ["", "on_conflict=update", "", "on_conflict=update", "on_conflict=fail"].iter().enumerate()
        {
            let job = import(&api, export.list, &format!("{query}{enroll}"), file.clone()).await;
            let new = if time == 0 { people.len() / 10 } else { 0 };
            assert_eq!(count(&job, "suppressed"), i64::try_from(new).unwrap(), "{}: {job}", export.system);
        }
        for (address, is_out) in people {
            if is_out {
                out.insert(address);
            } else if export.list == LEADS {
                leads.insert(address);
            }
        }
    }
    for _ in 0..30 {
        run(&api, "/dev/crm/leads/nurture/start").await;
        days_pass(&api, 1).await;
    }
    let emailed: Vec<String> = sqlx::query_scalar("SELECT DISTINCT to_email_key FROM emails ORDER BY 1")
        .fetch_all(&mut api.connection().await)
        .await
        .unwrap();
    let emailed: BTreeSet<String> = emailed.into_iter().collect();
    assert_eq!(emailed.intersection(&out).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(emailed, leads, "all others are");
}
