//! `/feedback/{token}`: the page on which customers give feedback.
//!
//! The link is in the email, and its token authorizes this one answer. A `GET` changes nothing,
//! because security scanners follow links; the form's `POST` submits the answer, once.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::Error;
use shared::accounts::settings;
use shared::crm::customers::Customer;
use shared::crm::feedback::{Answer, Feedback, FeedbackStatus};
use shared::error::FieldError;
use shared::mail::action_urls::Action;
use shared::platform::signed_links::Signer;
use shared::records::history::{Actor, ActorKind};
use shared::records::{self, Place};
use shared::values::json_schema::Shape;
use shared::values::{Category, Notes, Rating};
use sqlx::PgConnection;
use utoipa::openapi::{ObjectBuilder, ResponseBuilder, Schema};
use uuid::Uuid;

use crate::extract::Form;
use crate::http::observe::RequestId;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::reply::Reply;
use crate::respond::write::Write;
use crate::respond::{Problem, Result};
use crate::{AppState, pages};

/// The ratings and their labels.
const RATINGS: [(&str, &str); 5] = [("1", "Very bad"), ("2", "Bad"), ("3", "Okay"), ("4", "Good"), ("5", "Great")];
/// The categories and their labels.
const CATEGORIES: [(&str, &str); 6] = [
    ("product", "Product"),
    ("service", "Service"),
    ("delivery", "Delivery"),
    ("price", "Price"),
    ("support", "Support"),
    ("other", "Something else"),
];

pub(crate) fn operations() -> Vec<Operation> {
    let form = ObjectBuilder::new()
        .property("rating", Rating::shape())
        .required("rating")
        .property("comment", Option::<Notes>::shape())
        .property("category", Option::<Category>::shape())
        // Other fields are ignored, but a repeated field is an error.
        .additional_properties(Some(Schema::from(String::shape())));
    let feedback = [
        Operation::page("/feedback/{token}", show)
            .named("showFeedback", "Show the feedback form")
            .about("Changes nothing.")
            .shows("The form, or a thank-you page if the request was answered."),
        Operation::form("/feedback/{token}", submit)
            .named("submitFeedback", "Submit the feedback form")
            .about("Expired requests can still be answered. An invalid answer returns 400 with the form, in which invalid fields are marked and the input is preserved.")
            .takes_form(form)
            .answers(303, ResponseBuilder::new().description("The answer was saved. Redirects to the thank-you page."))
            .problems([400, 409, 413, 415]),
    ];
    tagged("Pages", feedback)
}

/// A feedback request as the customer sees it.
struct Asked {
    workspace_id: Uuid,
    feedback: Feedback,
    customer: Customer,
    sender: String,
}

impl Asked {
    /// Reads the request that a link belongs to; `None` for an invalid link.
    async fn by(state: &AppState, connection: &mut PgConnection, token: &str) -> shared::Result<Option<Self>> {
        let signer = Signer::load(connection).await?;
        let Some((workspace_id, id)) = Action::Feedback.verify(&signer, token) else {
            return Ok(None);
        };
        match Self::read(state, connection, workspace_id, id).await {
            Ok(asked) => Ok(Some(asked)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(
        state: &AppState,
        connection: &mut PgConnection,
        workspace_id: Uuid,
        id: Uuid,
    ) -> shared::Result<Self> {
        let feedback: Feedback = records::get(connection, workspace_id, Place { parent: None, id }).await?;
        let place = Place { parent: None, id: feedback.customer_id };
        let customer = records::get(connection, workspace_id, place).await?;
        let settings = settings::get(connection, workspace_id).await?;
        let sender = settings::sender(connection, workspace_id, &settings, &state.settings.mail).await?;
        Ok(Self { workspace_id, feedback, customer, sender: sender.name.unwrap_or(sender.email) })
    }

    fn greeting(&self) -> String {
        self.customer.name.greeting(self.customer.first_name.as_ref())
    }

    /// The form with the customer's input, in which invalid fields are marked.
    fn form(&self, status: StatusCode, typed: &Typed, errors: &[FieldError]) -> Result {
        let errors: Map<String, Value> =
            errors.iter().map(|error| (error.field.clone(), explain(error).into())).collect();
        let mut categories: Vec<(&str, &str)> = CATEGORIES.into();
        if !typed.category.is_empty() && CATEGORIES.iter().all(|(value, _)| *value != typed.category) {
            categories.push((&typed.category, &typed.category));
        }
        let named = |(value, word): (&str, &str)| json!({ "value": value, "word": word });
        let values = json!({
            "sender": self.sender,
            "first_name": self.greeting(),
            "ratings": RATINGS.map(named),
            "categories": categories.into_iter().map(named).collect::<Vec<_>>(),
            "typed": typed,
            "errors": errors,
        });
        pages::page(status, "How are we doing?", "feedback", &values)
    }

    fn thanks(&self, status: StatusCode) -> Result {
        let title = format!("Thank you, {}", self.greeting());
        let day = self.feedback.answered_at.map(|at| at.format(" on %-d %B %Y").to_string()).unwrap_or_default();
        let text = format!("{} received your answer{day}. You can close this page.", self.sender);
        pages::page(status, &title, "thanks", &json!({ "title": title, "text": text }))
    }

    fn answered_already(&self) -> Result {
        let text = format!("{} already has an answer to this request, which was not changed. Thank you.", self.sender);
        pages::message(StatusCode::CONFLICT, "This was already answered", &text)
    }
}

/// A fault in words for customers.
fn explain(error: &FieldError) -> String {
    match (error.field.as_str(), error.code.as_ref()) {
        ("rating", _) => "Please choose a rating.".to_owned(),
        (_, "too_long") => format!("This is too long: it {}.", error.message),
        _ => format!("This is not valid: it {}.", error.message),
    }
}

/// The customer's input.
#[derive(Default, Serialize)]
struct Typed {
    rating: String,
    comment: String,
    category: String,
}

impl Typed {
    fn read(Form(fields): Form) -> Self {
        let mut typed = Self::default();
        for (name, text) in fields {
            match name.as_str() {
                "rating" => typed.rating = text,
                "comment" => typed.comment = text,
                "category" => typed.category = text,
                _ => {}
            }
        }
        typed
    }
}

async fn show(State(state): State<AppState>, Path(token): Path<String>) -> Result {
    let asked = Asked::by(&state, &mut *state.connection().await?, &token).await?;
    match asked {
        None => pages::unknown_link(),
        Some(asked) if asked.feedback.status == FeedbackStatus::Answered => asked.thanks(StatusCode::OK),
        Some(asked) => asked.form(StatusCode::OK, &Typed::default(), &[]),
    }
}

async fn submit(
    State(state): State<AppState>,
    Path(token): Path<String>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    form: Result<Form>,
) -> Result {
    let form = match form {
        Ok(form) => form,
        Err(problem) if problem.status() == StatusCode::BAD_REQUEST => {
            let text = "The form did not arrive completely. Please go back and send it again.";
            return pages::message(StatusCode::BAD_REQUEST, "Something went wrong", text);
        }
        Err(problem) => return Err(problem),
    };
    let asked = Asked::by(&state, &mut *state.connection().await?, &token).await?;
    let Some(asked) = asked else { return pages::unknown_link() };
    let typed = Typed::read(form);
    let answer = match Answer::from_form(&typed.rating, &typed.comment, &typed.category) {
        Ok(answer) => answer,
        Err(Error::Invalid(errors)) => return asked.form(StatusCode::BAD_REQUEST, &typed, &errors),
        Err(error) => return Err(error.into()),
    };
    let actor = Actor {
        workspace_id: asked.workspace_id,
        kind: ActorKind::Customer,
        id: asked.customer.id,
        request_id: Some(request_id),
    };
    let id = asked.feedback.id;
    let written = Write::of(&state, actor)
        .run(&[], move |connection, actor| {
            let answer = answer.clone();
            Box::pin(async move {
                super::save_answer(connection, actor, id, answer).await?;
                Ok(Reply::no_content())
            })
        })
        .await;
    match written {
        // Redirects to the thank-you page, which can be reloaded without submitting the form again.
        Ok(_) => {
            let mut thanks = asked.thanks(StatusCode::SEE_OTHER)?;
            thanks.headers_mut().insert(LOCATION, HeaderValue::try_from(token).map_err(internal)?);
            Ok(thanks)
        }
        Err(problem) if problem.status() == StatusCode::CONFLICT => asked.answered_already(),
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => pages::unknown_link(),
        Err(problem) => Err(problem),
    }
}

fn internal(error: impl ToString) -> Problem {
    Problem::internal(error.to_string())
}
