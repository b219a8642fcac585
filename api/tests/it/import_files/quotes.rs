//! Quotes where none may stand, and quotes that are not closed.

use serde_json::json;

use super::*;

/// Case `bare-quote`.
#[tokio::test]
async fn an_inch_sign_is_kept_with_a_warning() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Notes\r\nAl,al@example.com,8\" board\r\nBo,bo@example.com,\"8\" board\"\r\nCy,cy@example.com,fine\r\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 3, "warnings": 2 }));
    for (email, notes) in [("al@example.com", "8\" board"), ("bo@example.com", "8\" board"), ("cy@example.com", "fine")]
    {
        assert_eq!(person(&api, LEADS, email).await["notes"], notes);
    }
    let lines: Vec<i64> =
        reported(&api, &job, "warned").await.iter().map(|row| row["line"].as_i64().unwrap()).collect();
    assert_eq!(lines, [2, 3]);
}

#[tokio::test]
async fn quotes_of_many_forms_stay_in_their_cell() {
    let (api, _worker) = start().await;
    for (n, (cell, notes, is_warned)) in [
        ("\"he said \"\"yes\"\"\"", "he said \"yes\"", false),
        ("\"a, b\"", "a, b", false),
        ("\"line 1\r\nline 2\"", "line 1\r\nline 2", false),
        ("5\" x 7\"", "5\" x 7\"", true),
        ("the \"best\" one", "the \"best\" one", true),
        ("\"the \"best\" one\"", "the \"best\" one", true),
        ("'quoted'", "'quoted'", false),
        ("„Zitat“", "„Zitat“", false),
        ("19\"", "19\"", true),
        ("Rock ’n’ Roll", "Rock ’n’ Roll", false),
        ("\"two\" by \"four\"", "two\" by \"four", true),
    ]
    .into_iter()
    .enumerate()
    {
        let file =
            format!("Name,Email,Notes,City\r\nQ,q{n}@example.com,{cell},Rome\r\nR,r{n}@example.com,after,Bonn\r\n");
        let job = import(&api, LEADS, "", file).await;
        assert_eq!((count(&job, "created"), count(&job, "warnings") > 0), (2, is_warned), "{cell}: {job}");
        let record = person(&api, LEADS, &format!("q{n}@example.com")).await;
        // A line break may be stored in either form.
        assert_eq!(record["notes"].as_str().unwrap().replace('\r', ""), notes.replace('\r', ""), "{cell}");
        assert_eq!(record["custom_fields"]["City"], "Rome", "{cell}");
    }
}

#[tokio::test]
async fn a_quote_that_stays_open_rejects_its_row_alone() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Notes\nAl,al@example.com,\"open\nBo,bo@example.com,x\nCy,cy@example.com,y\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "failed": 1 }));
    assert_eq!(remarks(&api, &job).await, ["2 failed record_too_long"]);
}
