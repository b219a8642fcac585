use std::panic::{AssertUnwindSafe, catch_unwind};

use shared::queue::{self, NewJob};
use testing::test_jobs::Chore;
use testing::{Database, Process};
use uuid::Uuid;

async fn enqueue(database: &Database) {
    let job = NewJob::new(Uuid::now_v7(), &Chore::Nothing).unwrap();
    queue::enqueue(&mut database.pool().acquire().await.unwrap(), job).await.unwrap();
}

/// What the end of a test says.
fn complaint(database: Database) -> Option<String> {
    let ended = catch_unwind(AssertUnwindSafe(|| drop(database)));
    ended.err().map(|panic| *panic.downcast::<String>().unwrap())
}

#[tokio::test]
async fn a_test_that_leaves_a_job_fails_unless_it_says_so() {
    let database = Database::create().await;
    database.must_finish_jobs();
    assert_eq!(complaint(database), None);

    let database = Database::create().await;
    database.must_finish_jobs();
    enqueue(&database).await;
    let said = complaint(database).unwrap();
    assert_eq!(said, r#"the test leaves jobs queued or running, and does not allow it: {"chore": 1}"#);

    let database = Database::create().await;
    database.may_leave_jobs("import_leads");
    enqueue(&database).await;
    assert!(complaint(database).is_some());

    let database = Database::create().await;
    database.may_leave_jobs("chore");
    enqueue(&database).await;
    assert_eq!(complaint(database), None);
}

#[tokio::test]
async fn a_worker_that_is_let_go_of_runs_what_is_due() {
    let database = Database::create().await;
    database.must_finish_jobs();
    let (key, worker) = (database.key("acme").await, Process::worker(&database, &[]));
    let api = Process::api(&database).await;
    let path = format!("{}/dev/crm/leads/nurture/start", api.url);
    let answer = reqwest::Client::new().post(path).bearer_auth(key).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    drop(worker);
    assert_eq!(complaint(database), None);
}
