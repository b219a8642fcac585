//! Dates in the forms of many countries and programs.

use serde_json::{Value, json};

use super::*;

/// The last contact of each person.
fn contacts(people: &[Value]) -> Vec<&str> {
    people.iter().map(|lead| lead["last_contact"].as_str().unwrap_or("-")).collect()
}

/// Case `c06-dates`.
#[tokio::test]
async fn one_date_settles_the_order_of_the_others() {
    let (api, _worker) = start().await;
    let cells = ["08/29/2023", "11/4/2021", "27.10.2025", "2023-07-02 6:45:38", "45124", "2024-02-31"];
    let (job, people) = column(&api, LEADS, "", "last_contact", &cells).await;
    assert_counts(&job, json!({ "created": 6, "warnings": 1 }));
    let expected = [
        "2023-08-29T00:00:00Z",
        "2021-11-04T00:00:00Z",
        "2025-10-27T00:00:00Z",
        "2023-07-02T06:45:38Z",
        "2023-07-17T00:00:00Z",
        "-",
    ];
    assert_eq!(contacts(&people), expected);
    assert_eq!(people[5]["custom_fields"], json!({ "last_contact": "2024-02-31" }));
    assert_eq!(people[0]["custom_fields"], json!({}));
}

/// Case `excel-serial-dates`.
#[tokio::test]
async fn dates_with_one_meaning_may_stand_side_by_side() {
    let (api, _worker) = start().await;
    let cells = [
        ("45383", "2024-04-01T00:00:00Z"),
        ("2024-04-01 14:05:00", "2024-04-01T14:05:00Z"),
        ("2024-04-01T14:05", "2024-04-01T14:05:00Z"),
        ("1 Apr 2024", "2024-04-01T00:00:00Z"),
        ("2024/04/01", "2024-04-01T00:00:00Z"),
        ("1711980300", "2024-04-01T14:05:00Z"),
        ("2024-04-01T14:05:00+02:00", "2024-04-01T12:05:00Z"),
        ("20240401", "2024-04-01T00:00:00Z"),
        ("1711980300000", "2024-04-01T14:05:00Z"),
        ("2024-04-01T14:05:00Z", "2024-04-01T14:05:00Z"),
        ("2024-04-01", "2024-04-01T00:00:00Z"),
        ("31.12.2024", "2024-12-31T00:00:00Z"),
        ("31.12.2024 23:59", "2024-12-31T23:59:00Z"),
        ("31/12/2024", "2024-12-31T00:00:00Z"),
        ("31-12-2024", "2024-12-31T00:00:00Z"),
        // Day and month are the same.
        ("04/04/2024", "2024-04-04T00:00:00Z"),
        ("45383.5", "2024-04-01T12:00:00Z"),
    ];
    let texts = cells.map(|(text, _)| text);
    let (job, people) = column(&api, LEADS, "", "Last Contact", &texts).await;
    assert_counts(&job, json!({ "created": 17 }));
    assert_eq!(contacts(&people), cells.map(|(_, time)| time));
}

#[tokio::test]
async fn months_are_named_in_many_languages() {
    let (api, _worker) = start().await;
    let cells = [
        "31 Mar 2024",
        "31 March 2024",
        "March 31, 2024",
        "Mar 31 2024",
        "31-Mar-2024",
        "31. März 2024",
        "31 mars 2024",
        "31 de marzo de 2024",
        "31 mar 2024",
        "31 de março de 2024",
        "31 marzo 2024",
        "31 maart 2024",
        "31 marca 2024",
        "31. března 2024",
        "31 marts 2024",
        "31. maaliskuuta 2024",
        "31 Mart 2024",
        "31 марта 2024",
        "31 березня 2024",
        "2024年3月31日",
        "2024년 3월 31일",
        "31 MAR 2024",
    ];
    let (job, people) = column(&api, LEADS, "", "Last Contact", &cells).await;
    for (cell, person) in cells.iter().zip(&people) {
        assert_eq!(person["last_contact"], "2024-03-31T00:00:00Z", "{cell}: {person}");
    }
    assert_counts(&job, json!({ "created": 22 }));
}

/// Whether the day or the month is first: what one cell of a column says, holds for the column.
#[tokio::test]
async fn the_order_of_day_and_month_is_settled_by_the_column() {
    let (api, _worker) = start().await;
    for (evidence, cell, expected) in [
        ("31/12/2023", "3/4/2024", "2024-04-03T00:00:00Z"),
        ("12/31/2023", "3/4/2024", "2024-03-04T00:00:00Z"),
        ("31-12-2023", "03-04-2024", "2024-04-03T00:00:00Z"),
        ("12-31-2023", "03-04-2024", "2024-03-04T00:00:00Z"),
        ("31.12.2023", "3.4.2024", "2024-04-03T00:00:00Z"),
        ("12/31/2023 11:30 PM", "3/4/2024 1:05 PM", "2024-03-04T13:05:00Z"),
        ("12/31/2023 12:00 AM", "3/4/2024 12:00 AM", "2024-03-04T00:00:00Z"),
        ("31/12/2023 23:30", "3/4/2024 01:05", "2024-04-03T01:05:00Z"),
        ("13/01/2024", "12/01/2024", "2024-01-12T00:00:00Z"),
        ("01/13/2024", "01/12/2024", "2024-01-12T00:00:00Z"),
        ("2024-12-31", "2024-4-3", "2024-04-03T00:00:00Z"),
    ] {
        // The cell that settles the column may stand after those it settles.
        for cells in [[evidence, cell], [cell, evidence]] {
            let (job, people) = column(&api, LEADS, "", "Last Contact", &cells).await;
            assert_counts(&job, json!({ "created": 2 }));
            assert!(contacts(&people).contains(&expected), "{cells:?}: {job}");
        }
    }
}

#[tokio::test]
async fn an_ambiguous_date_is_reported_and_never_guessed() {
    let (api, _worker) = start().await;
    // The cells of a column, and the place of an ambiguous one.
    for (cells, at) in [
        (vec!["3/4/2024", "5/6/2024"], 0),
        (vec!["03/04/2024", "2024-05-06"], 0),
        (vec!["3-4-2024", ""], 0),
        (vec!["12/11/2023 10:00", "2023-11-12 10:00"], 0),
        (vec!["1/2/24", "3/4/24"], 1),
        (vec!["45000", "3/4/2024"], 1),
        (vec!["3/4/2024", "3 Apr 2024"], 0),
        (vec!["01/02/2023", "yesterday"], 0),
        // Day and month are the same in the first, which settles nothing.
        (vec!["10/10/2024", "10/11/2024"], 1),
        // The column says both.
        (vec!["31/12/2023", "12/31/2023", "3/4/2024"], 2),
    ] {
        let (job, people) = column(&api, LEADS, "", "Last Contact", &cells).await;
        assert_has(&people[at], json!({ "last_contact": null, "custom_fields": { "Last Contact": cells[at] } }));
        assert!(remarks(&api, &job).await.contains(&format!("{} warned ambiguous", at + 2)), "{cells:?}: {job}");
    }
    // Given by hand.
    for (query, expected) in [("date_order=dmy", "2024-04-03T00:00:00Z"), ("date_order=mdy", "2024-03-04T00:00:00Z")] {
        let (job, people) = column(&api, LEADS, query, "Last Contact", &["3/4/2024"]).await;
        assert_eq!((contacts(&people), count(&job, "warnings")), (vec![expected], 0));
    }
    let (_, people) = column(&api, LEADS, "date_order=ymd", "Last Contact", &["24/03/04"]).await;
    assert_eq!(contacts(&people), ["2024-03-04T00:00:00Z"]);
}

#[tokio::test]
async fn what_is_no_date_is_kept_as_text() {
    let (api, _worker) = start().await;
    let cells = [
        "2023-02-29",
        "2024-13-01",
        "32.01.2024",
        "next week",
        "n/a",
        "2024-01-15 25:00",
        "00/00/0000",
        "17",
        "31/31/2024",
        "31 Foo 2024",
    ];
    let (job, people) = column(&api, LEADS, "", "Last Contact", &cells).await;
    assert_counts(&job, json!({ "created": 10, "warnings": 10 }));
    for (cell, person) in cells.iter().zip(&people) {
        assert_has(person, json!({ "last_contact": null, "custom_fields": { "Last Contact": cell } }));
    }
}

#[tokio::test]
async fn times_without_an_offset_are_of_the_workspace_or_of_the_given_zone() {
    let (api, _worker) = start().await;
    for (query, expected) in [("", "2024-07-01T12:00:00Z"), ("tz=Europe/Berlin", "2024-07-01T10:00:00Z")] {
        let cells = ["2024-07-01 12:00", "2024-07-01T12:00:00Z"];
        let (_, people) = column(&api, LEADS, query, "Last Contact", &cells).await;
        assert_eq!(contacts(&people), [expected, "2024-07-01T12:00:00Z"]);
    }
    api.send(reqwest::Method::PUT, "/dev/crm/settings", json!({ "time_zone": "America/New_York" }), 200).await;
    let (_, people) = column(&api, LEADS, "", "Last Contact", &["2024-07-01 12:00"]).await;
    assert_eq!(contacts(&people), ["2024-07-01T16:00:00Z"]);
}

#[tokio::test]
async fn a_creation_is_never_in_the_future_and_only_of_new_records() {
    let (api, _worker) = start().await;
    for header in [
        "Create Date",
        "CREATEDDATE",
        "Created Time",
        "Person created",
        "OPTIN_TIME",
        "Created At",
        "Erstellt am",
        "Date de création",
        "Fecha de creación",
        "Data di creazione",
    ] {
        let (job, people) = column(&api, LEADS, "", header, &["2021-02-03 04:05:06", "2999-01-01 00:00:00"]).await;
        assert_eq!(people[0]["created_at"], "2021-02-03T04:05:06Z", "{header}: {job}");
        let now = people[1]["created_at"].as_str().unwrap();
        assert!(now < "2900", "{header}: {now}");
        let email = people[0]["email"].as_str().unwrap();
        let again = format!("Name,Email,{header}\nAnother Name,{email},2001-01-01 00:00:00\n");
        assert_counts(&import(&api, LEADS, "on_conflict=update", again).await, json!({ "updated": 1 }));
        let updated = person(&api, LEADS, email).await;
        assert_has(&updated, json!({ "name": "Another Name", "created_at": "2021-02-03T04:05:06Z" }));
    }
}
