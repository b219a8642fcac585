//! Numbers with the separators, signs and units of many countries.

use serde_json::{Value, json};

use super::*;

fn limits(people: &[Value]) -> Vec<Option<f64>> {
    people.iter().map(|customer| customer["credit_limit"].as_f64()).collect()
}

/// Case `c07-numbers`.
#[tokio::test]
async fn numbers_that_are_none_cost_their_cells_alone() {
    let (api, _worker) = start().await;
    let scores = ["2test", "65,5", "1.2.4", "65%", " 90 "];
    let (job, people) = column(&api, LEADS, "", "score", &scores).await;
    assert_counts(&job, json!({ "created": 5, "warnings": 2 }));
    let read: Vec<_> = people.iter().map(|lead| lead["score"].as_f64().unwrap()).collect();
    assert_eq!(read, [0.0, 65.5, 0.0, 65.0, 90.0]);
    assert_eq!(people[0]["custom_fields"], json!({ "score": "2test" }));
    assert_eq!(people[2]["custom_fields"], json!({ "score": "1.2.4" }));

    // One cell has a decimal comma and another a decimal point, so the column settles nothing.
    let cells = ["4,100", "$80,000 ", "1.234.65", "1.234,65", "4.91512E+9"];
    let (job, people) = column(&api, CUSTOMERS, "", "credit_limit", &cells).await;
    assert_counts(&job, json!({ "created": 5, "warnings": 3 }));
    assert_eq!(limits(&people), [None, None, None, Some(1234.65), Some(4_915_120_000.0)]);
    let remarks = remarks(&api, &job).await;
    assert!(remarks.starts_with(&["2 warned ambiguous".to_owned(), "3 warned ambiguous".to_owned()]), "{remarks:?}");
}

/// Case `en-leads-de-decimals`: English headers, German cells.
#[tokio::test]
async fn english_headers_may_stand_over_german_numbers_and_dates() {
    let (api, _worker) = start().await;
    let file =
        "Name;Email;Score;Last Contact\r\nAda;ada@example.com;65,5;30.12.2025\r\nBea;bea@example.com;90;2.1.2026\r\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2 }));
    let ada = json!({ "score": 65.5, "last_contact": "2025-12-30T00:00:00Z", "custom_fields": {} });
    assert_has(&person(&api, LEADS, "ada@example.com").await, ada);
    let bea = json!({ "score": 90, "last_contact": "2026-01-02T00:00:00Z" });
    assert_has(&person(&api, LEADS, "bea@example.com").await, bea);
}

#[tokio::test]
async fn numbers_with_one_meaning_are_read() {
    let (api, _worker) = start().await;
    for (cell, number) in [
        ("1500", 1500.0),
        ("1500.5", 1500.5),
        ("1500,5", 1500.5),
        ("1,234.50", 1234.5),
        ("1.234,50", 1234.5),
        ("1,234,567", 1_234_567.0),
        ("1.234.567", 1_234_567.0),
        ("1 234,50", 1234.5),
        ("1\u{a0}234,50 €", 1234.5),
        ("1\u{202f}234,5", 1234.5),
        ("€ 12,50", 12.5),
        ("$1,234.00", 1234.0),
        ("12.50 USD", 12.5),
        ("CHF 99.95", 99.95),
        ("£7.50", 7.5),
        ("¥ 5000", 5000.0),
        ("100 %", 100.0),
        ("1234,5678", 1234.5678),
        ("0,125", 0.125),
        ("  42  ", 42.0),
    ] {
        let (job, people) = column(&api, CUSTOMERS, "", "Credit Limit", &[cell]).await;
        assert_eq!((limits(&people), count(&job, "warnings")), (vec![Some(number)], 0), "{cell:?}");
        assert_eq!(people[0]["custom_fields"], json!({}), "{cell:?}");
    }
}

#[tokio::test]
async fn one_number_settles_the_separators_of_the_others() {
    let (api, _worker) = start().await;
    for (evidence, cell, number) in [
        ("1,234.50", "3,100", 3100.0),
        ("1.234,50", "3.100", 3100.0),
        ("12.5", "3,100", 3100.0),
        ("12,5", "3.100", 3100.0),
        ("1,234,567", "90,000", 90_000.0),
        ("1.234.567", "90.000", 90_000.0),
        ("$0.99", "$2,500", 2500.0),
        ("0,99 €", "2.500 €", 2500.0),
        ("99.95", "€1,000", 1000.0),
        ("99,95", "CHF 1.000", 1000.0),
    ] {
        for cells in [[evidence, cell], [cell, evidence]] {
            let (job, people) = column(&api, CUSTOMERS, "", "Credit Limit", &cells).await;
            assert_counts(&job, json!({ "created": 2 }));
            assert!(limits(&people).contains(&Some(number)), "{cells:?}: {job}");
        }
    }
}

#[tokio::test]
async fn an_ambiguous_number_is_reported_and_never_guessed() {
    let (api, _worker) = start().await;
    for cells in [
        vec!["1,234"],
        vec!["1.234"],
        vec!["$90,000"],
        vec!["12.500 €"],
        vec!["100,000", "250"],
        vec!["3,100", "3,200", "3,300"],
        vec!["1.000", "n/a"],
        vec!["USD 5,000", ""],
        // The column says both.
        vec!["1,234", "12.5", "12,5"],
        vec!["1.234", "1,234.50", "1.234,50"],
    ] {
        let (job, people) = column(&api, CUSTOMERS, "", "Credit Limit", &cells).await;
        assert_has(&people[0], json!({ "credit_limit": null, "custom_fields": { "Credit Limit": cells[0] } }));
        assert!(remarks(&api, &job).await.contains(&"2 warned ambiguous".to_owned()), "{cells:?}: {job}");
    }
    for (query, cell, number) in [
        ("decimal=comma", "1,234", 1.234),
        ("decimal=point", "1,234", 1234.0),
        ("decimal=comma", "1.234", 1234.0),
        ("decimal=point", "1.234", 1.234),
    ] {
        let (job, people) = column(&api, CUSTOMERS, query, "Credit Limit", &[cell]).await;
        assert_eq!((limits(&people), count(&job, "warnings")), (vec![Some(number)], 0), "{query} {cell}");
    }
}

#[tokio::test]
async fn what_is_no_number_is_kept_as_text() {
    let (api, _worker) = start().await;
    let cells = ["abc", "1test", "1.2.3", "1,23,4", "1.234.56", "12-34", "n/a", "--", "1/2", "10 to 20", "1,234.56,7"];
    let (job, people) = column(&api, CUSTOMERS, "", "Credit Limit", &cells).await;
    assert_counts(&job, json!({ "created": 11, "warnings": 11 }));
    for (cell, person) in cells.iter().zip(&people) {
        assert_has(person, json!({ "credit_limit": null, "custom_fields": { "Credit Limit": cell } }));
    }
}
