//! Imports are undone, also repeatedly with the same ids.

use reqwest::Method;
use serde_json::{Value, json};
use testing::Process;

use crate::runs::kill_after_pages;
use crate::support::{self, Api, id};

const KINDS: [&str; 2] = ["/dev/crm/leads", "/dev/crm/customers"];
const ID: &str = "5b7e84f5-30d6-4e6e-9abb-41c3aa6038fd";
const FILE: &str = "id,name,email\n5b7e84f5-30d6-4e6e-9abb-41c3aa6038fd,Una Do,una.do@example.com\n";

async fn import(api: &Api, list: &str) -> Value {
    let job = api.imported(&format!("{list}/import"), FILE).await;
    assert_eq!(job["result"]["created"], 1, "{job}");
    job
}

/// Undoes an import; returns how many records were removed, restored and left.
async fn undo(api: &Api, import: &Value) -> [i64; 3] {
    let job = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(import))), 202).await;
    let job = api.ended(&job).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    ["removed", "restored", "left"].map(|count| job["result"][count].as_i64().unwrap())
}

async fn exists(api: &Api, list: &str) -> bool {
    api.read(&format!("{list}?email=una.do@example.com")).await != json!([])
}

#[tokio::test]
async fn an_import_with_the_same_ids_is_undone_every_time() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for list in KINDS {
        for round in 1..=3 {
            let job = import(&api, list).await;
            assert_eq!(undo(&api, &job).await, [1, 0, 0], "round {round} of {list}");
            assert!(!exists(&api, list).await);
        }
    }
}

#[tokio::test]
async fn a_record_that_was_deleted_and_imported_again_is_undone() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for list in KINDS {
        let record = format!("{list}/{ID}");
        let first = import(&api, list).await;
        api.send(Method::PUT, &record, json!({ "notes": "called" }), 200).await;
        api.delete(&record, 204).await;
        let second = import(&api, list).await;
        // The first import's record was deleted; the present one belongs to the second import.
        assert_eq!(undo(&api, &first).await, [0, 0, 0]);
        assert_eq!(undo(&api, &second).await, [1, 0, 0]);
        assert!(!exists(&api, list).await);

        // A change to the present record keeps it, whatever happened to the earlier ones.
        let third = import(&api, list).await;
        api.send(Method::PUT, &record, json!({ "notes": "called again" }), 200).await;
        assert_eq!(undo(&api, &third).await, [0, 0, 1]);
    }
}

#[tokio::test]
async fn a_restored_record_counts_as_changed_until_it_is_deleted_and_imported_again() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for list in KINDS {
        let record = format!("{list}/{ID}");
        let first = import(&api, list).await;
        assert_eq!(undo(&api, &first).await, [1, 0, 0]);
        support::json(api.post(&format!("{record}/restore")), 200).await;
        assert_eq!(undo(&api, &first).await, [0, 0, 1], "the record was restored after the import");
        api.delete(&record, 204).await;
        let second = import(&api, list).await;
        assert_eq!(undo(&api, &second).await, [1, 0, 0]);
        assert!(!exists(&api, list).await);
    }
}

#[tokio::test]
async fn updates_are_undone_only_in_the_record_they_changed() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    for list in KINDS {
        let record = format!("{list}/{ID}");
        let update = async || {
            let file = FILE.replace("Una Do", "Una Dos");
            let job = api.imported(&format!("{list}/import?on_conflict=update"), file).await;
            assert_eq!(job["result"]["updated"], 1, "{job}");
            job
        };
        import(&api, list).await;
        for _ in 0..3 {
            let job = update().await;
            assert_eq!(undo(&api, &job).await, [0, 1, 0]);
            assert_eq!(api.read(&record).await["name"], "Una Do");
        }
        let updated = update().await;
        api.delete(&record, 204).await;
        let again = import(&api, list).await;
        assert_eq!(undo(&api, &updated).await, [0, 0, 0], "the import updated an earlier record with this id");
        assert_eq!(undo(&api, &again).await, [1, 0, 0]);
    }
}

#[tokio::test]
async fn a_change_of_a_lead_does_not_affect_a_customer_with_the_same_id() {
    let api = Api::start().await;
    let _worker = Process::worker(&api.database, &[]);
    let [leads, customers] = KINDS;
    import(&api, leads).await;
    let job = import(&api, customers).await;
    api.send(Method::PUT, &format!("{leads}/{ID}"), json!({ "notes": "called" }), 200).await;
    assert_eq!(undo(&api, &job).await, [1, 0, 0]);
    assert!(exists(&api, leads).await);
}

#[tokio::test]
async fn an_undo_whose_workers_are_killed_takes_everything_back_once() {
    let api = Api::start().await;
    let importing = Process::worker(&api.database, &[]);
    let file = |name: &str, rows: i32| {
        let row = |n| format!("{name} {n},lead{n}@example.com\n");
        format!("name,email\n{}", (0..rows).map(row).collect::<String>())
    };
    api.imported("/dev/crm/leads/import", file("Before", 2_500)).await;
    let import = api.imported("/dev/crm/leads/import?on_conflict=update", file("After", 5_000)).await;
    assert_eq!([&import["result"]["created"], &import["result"]["updated"]], [2_500, 2_500], "{import}");
    drop(importing);

    let job = support::json(api.post(&format!("/dev/crm/jobs/{}/undo", id(&import))), 202).await;
    let (killed_at, job) = kill_after_pages(&api, &job).await;
    let is_in = |walk: &str| killed_at.iter().any(|cursor| cursor["page"].get(walk).is_some());
    assert!(is_in("records") && is_in("history"), "killed at {killed_at:?}");
    assert_eq!(job["result"], json!({ "removed": 2_500, "restored": 2_500, "left": 0, "unsuppressed": 0 }));
    let left: (i64, i64) = sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE name LIKE 'Before %') FROM leads")
        .fetch_one(&mut api.connection().await)
        .await
        .unwrap();
    assert_eq!(left, (2_500, 2_500));
}
