//! `/dev/crm/feedback`: what customers were asked, and what they answered.

mod page;

use shared::crm::feedback::{self, Answer, Feedback};
use shared::error::Reason;
use shared::insight::themes;
use shared::records::history::Actor;
use shared::records::schema;
use shared::values::Rating;
use shared::values::json_schema::Shape;
use shared::workflows::feedback_reminders::RemindFeedback;
use shared::workflows::feedback_requests;
use sqlx::PgConnection;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use super::records;
use crate::extract::{DryRun, JsonObject, NoBody, NoQuery, Path};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::write::Write;
use crate::respond::{Reply, Result};

pub(crate) use page::operations as pages;

pub(crate) fn operations() -> Vec<Operation> {
    let feedback = [
        Operation::get("/feedback", records::list::<Feedback>)
            .named("listFeedback", "List feedback")
            .lists_records::<Feedback>(),
        Operation::post("/customers/{customerId}/feedback/request", request)
            .named("requestFeedback", "Ask a customer for feedback")
            .about(
                "The job, whose `subject` is the feedback, mails the customer a link to a page for the answer. 409 if the \
                 customer was asked and has not answered yet, is blocked, or takes no mails. A request that is open and whose \
                 mail never left, as it was cancelled for instance, is mailed anew.",
            )
            .conflicts([Reason::OpenRequest, Reason::Blocked, Reason::Suppressed])
            .accepts(),
        Operation::post("/feedback/process-reminders", remind)
            .named("remindFeedback", "Remind customers of requests for feedback")
            .about(
                "Each customer who has not answered is reminded after the workspace's waiting time, at most twice, and after \
                 another one the request expires. The result says how many requests were `open`: those `reminded`, \
                 `expired`, or `waiting`, and those `skipped`, by the reason. One run is under way at a time: asked again, the \
                 answer is that job.",
            )
            .can_run_dry("Tells in the job's `preview` what would happen to the 1,000 oldest requests, and writes nothing.")
            .accepts(),
        Operation::get("/feedback/{feedbackId}", records::read::<Feedback>)
            .named("getFeedback", "Get feedback")
            .reads::<Feedback>(),
        Operation::post("/feedback/{feedbackId}", answer)
            .named("answerFeedback", "Take an answer")
            .about("Also of a request that has expired. 409 if it was answered already.")
            .takes("FeedbackAnswer".to_owned(), answer_schema())
            .conflicts([Reason::AlreadyAnswered])
            .returns_record::<Feedback>(200, "The feedback, answered."),
        Operation::get("/feedback/{feedbackId}/history", records::history::<Feedback>)
            .named("getFeedbackHistory", "List the changes of feedback")
            .tells_history(),
    ];
    tagged("Feedback", feedback)
}

/// What can be said of feedback, by whom it is answered.
fn answer_schema() -> RefOr<Schema> {
    let mut answer = schema::update::<Feedback>();
    if let RefOr::T(Schema::Object(answer)) = &mut answer {
        answer.properties.shift_remove("customer_id");
        let mut rating = Rating::shape();
        rating.description = Some("How satisfied the customer is.".to_owned());
        answer.properties.insert("rating".to_owned(), rating.into());
        answer.required.push("rating".to_owned());
        answer.description = Some("What the customer says.".to_owned());
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

async fn remind(write: Write, DryRun(dry_run): DryRun, _: NoBody) -> Result {
    write.start_run(RemindFeedback { dry_run }).await
}

async fn answer(Path(id): Path, write: Write, _: NoQuery, JsonObject { object, bytes }: JsonObject) -> Result {
    let answer = Answer::read(object)?;
    write
        .run(&bytes, move |connection, actor| {
            let answer = answer.clone();
            Box::pin(async move { Reply::record(&take_answer(connection, actor, id, answer).await?) })
        })
        .await
}

/// Takes an answer, and has its comment read for themes.
async fn take_answer(
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
