//! `/dev/crm/feedback`: feedback requests and their answers.

mod page;

use shared::accounts::scopes::Scope;
use shared::crm::feedback::{self, Answer, Feedback};
use shared::error::Reason;
use shared::insight::themes;
use shared::records::history::Actor;
use shared::records::schema;
use shared::values::Rating;
use shared::values::json_schema::Shape;
use shared::workflows::feedback_reminders::RemindFeedback;
use shared::workflows::feedback_requests::{self, RequestFeedback};
use sqlx::PgConnection;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use super::records;
use crate::extract::{JsonObject, NoBody, NoQuery, Path, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) use page::operations as pages;

pub(crate) fn operations() -> Vec<Operation> {
    let feedback = [
        Operation::get("/feedback", records::list::<Feedback>)
            .needs(Scope::RecordsRead)
            .named("list", "List feedback")
            .lists_records::<Feedback>(),
        Operation::post("/customers/{customerId}/feedback/request", request)
            .needs(Scope::Workflows)
            .named("request", "Request feedback from a customer")
            .about(
                "The job, whose `subject` is the feedback, emails the customer a link to the feedback page. Returns 409 if \
                 the customer has an unanswered request, is blocked, or has a suppressed address. If the email of an open \
                 request was never sent, because it was cancelled for example, the job sends a new one.",
            )
            .conflicts([Reason::OpenRequest, Reason::Blocked, Reason::Suppressed])
            .accepts::<RequestFeedback>(),
        Operation::get("/feedback/export", records::export::<Feedback>)
            .needs(Scope::RecordsRead)
            .named("export", "Export feedback as CSV")
            .exports::<Feedback>(),
        Operation::post("/feedback/process-reminders", remind)
            .needs(Scope::Workflows)
            .named("remind", "Send feedback reminders")
            .about(
                "Reminds each customer who has not answered after the workspace's waiting time, at most twice; after \
                 one more waiting time the request expires. The result counts the `open` requests: those `reminded`, \
                 `expired` and `waiting`, and those `skipped` by reason. Only one run is active at a time; starting \
                 another returns the active job.",
            )
            .can_run_dry("Reports in the job's `preview` what would happen to the 1,000 oldest requests, without any changes.")
            .confirms()
            .accepts::<RemindFeedback>(),
        Operation::get("/feedback/{feedbackId}", records::read::<Feedback>)
            .needs(Scope::RecordsRead)
            .named("get", "Get feedback")
            .reads::<Feedback>(),
        Operation::post("/feedback/{feedbackId}", answer)
            .needs(Scope::RecordsWrite)
            .named("answer", "Submit feedback")
            .about("Expired requests can still be answered. Returns 409 if the request was already answered.")
            .takes("FeedbackAnswer".to_owned(), answer_schema())
            .conflicts([Reason::AlreadyAnswered])
            .returns_record::<Feedback>(200, "The answered feedback."),
        Operation::delete("/feedback/{feedbackId}", records::delete::<Feedback>)
            .needs(Scope::RecordsDelete)
            .named("delete", "Delete feedback")
            .about("Also cancels the queued emails of the request. The feedback can be restored for 30 days.")
            .deletes(),
        Operation::post("/feedback/{feedbackId}/restore", records::restore::<Feedback>)
            .needs(Scope::RecordsWrite)
            .named("restore", "Restore deleted feedback")
            .refers()
            .conflicts([Reason::OpenRequest])
            .restores::<Feedback>("The restored feedback."),
        Operation::get("/feedback/{feedbackId}/history", records::history::<Feedback>)
            .needs(Scope::RecordsRead)
            .named("history", "List the changes of feedback")
            .lists_history(),
    ];
    tagged("Feedback", feedback)
}

/// The fields that an answer can set.
fn answer_schema() -> RefOr<Schema> {
    let mut answer = schema::update::<Feedback>();
    if let RefOr::T(Schema::Object(answer)) = &mut answer {
        answer.properties.shift_remove("customer_id");
        answer.properties.shift_remove("external_id");
        answer.properties.shift_remove("custom_fields");
        let mut rating = Rating::shape();
        rating.description = Some("How satisfied the customer is.".to_owned());
        answer.properties.insert("rating".to_owned(), rating.into());
        answer.required.push("rating".to_owned());
        answer.description = Some("The customer's answer.".to_owned());
    }
    answer
}

async fn request(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    write
        .run(&[], move |connection, actor| {
            Box::pin(async move { Reply::accepted(&feedback_requests::request(connection, actor, id).await?) })
        })
        .await
}

async fn remind(write: Write, Query(parameters): Query, _: NoBody) -> Result {
    write.start_run(RemindFeedback::read(&parameters, true)?).await
}

async fn answer(Path(id): Path, write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    let answer = Answer::read(object)?;
    write
        .run(&bytes, move |connection, actor| {
            let answer = answer.clone();
            Box::pin(async move { Reply::record(&save_answer(connection, actor, id, answer).await?) })
        })
        .await
}

/// Saves an answer, and queues its comment for the themes.
async fn save_answer(
    connection: &mut PgConnection,
    actor: &Actor,
    id: Uuid,
    answer: Answer,
) -> shared::Result<Feedback> {
    let feedback = feedback::answer(connection, actor, id, answer).await?;
    if feedback.comment.is_some() {
        themes::answered(connection, actor.workspace_id, actor.request_id.as_deref()).await?;
    }
    Ok(feedback)
}
