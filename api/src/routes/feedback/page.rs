//! `/feedback/{token}`: where customers answer.
//!
//! The link is in the mail, and its token is as good as a key to this one answer. A `GET` changes nothing,
//! since programs that look for danger follow links; the form's `POST` answers, once.

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
use crate::respond::write::Write;
use crate::respond::{Problem, Reply, Result};
use crate::{AppState, pages};

/// What the ratings are called.
const RATINGS: [(&str, &str); 5] = [("1", "Very bad"), ("2", "Bad"), ("3", "Okay"), ("4", "Good"), ("5", "Great")];
/// What an answer may be about.
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
        // Other fields are ignored, but none may come twice, as a list would.
        .additional_properties(Some(Schema::from(String::shape())));
    let feedback = [
        Operation::page("/feedback/{token}", show)
            .named("showFeedback", "The page on which a customer answers; changes nothing")
            .shows("The page, or thanks if it was answered."),
        Operation::form("/feedback/{token}", submit)
            .named("submitFeedback", "Answer a request for feedback")
            .about("Also one that has expired. An answer with faults is a 400 with the page, which names them and keeps what was typed.")
            .takes_form(form)
            .answers(303, ResponseBuilder::new().description("It is answered, and the page says so."))
            .problems([400, 409, 413, 415]),
    ];
    tagged("Pages", feedback)
}

/// A request as its customer sees it.
struct Asked {
    workspace_id: Uuid,
    feedback: Feedback,
    customer: Customer,
    sender: String,
}

impl Asked {
    /// What a link is for; `None` for a link that leads nowhere.
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

    /// The form, with what was typed into it and what is wrong with that.
    fn form(&self, status: StatusCode, typed: &Typed, errors: &[FieldError]) -> Result {
        let errors: Map<String, Value> = errors.iter().map(|error| (error.field.clone(), told(error).into())).collect();
        let mut categories: Vec<(&str, &str)> = CATEGORIES.into();
        if !typed.category.is_empty() && CATEGORIES.iter().all(|(value, _)| *value != typed.category) {
            categories.push((&typed.category, &typed.category));
        }
        let named = |(value, word): (&str, &str)| json!({ "value": value, "word": word });
        let values = json!({
            "sender": self.sender,
            "first_name": self.customer.name.first(),
            "ratings": RATINGS.map(named),
            "categories": categories.into_iter().map(named).collect::<Vec<_>>(),
            "typed": typed,
            "errors": errors,
        });
        pages::page(status, "How are we doing?", "feedback", &values)
    }

    fn thanks(&self, status: StatusCode) -> Result {
        let title = format!("Thank you, {}", self.customer.name.first());
        let day = self.feedback.answered_at.map(|at| at.format(" of %-d %B %Y").to_string()).unwrap_or_default();
        let text = format!("{} has your answer{day}. You can close this page.", self.sender);
        pages::page(status, &title, "thanks", &json!({ "title": title, "text": text }))
    }

    fn answered_already(&self) -> Result {
        let text = format!("{} has an answer to this request already, and keeps that one. Thank you.", self.sender);
        pages::message(StatusCode::CONFLICT, "This was answered already", &text)
    }
}

/// A fault in words for people.
fn told(error: &FieldError) -> String {
    match (error.field.as_str(), error.code.as_ref()) {
        ("rating", _) => "Please choose one of the five.".to_owned(),
        (_, "too_long") => format!("This is too long: it {}.", error.message),
        _ => format!("This cannot be taken: it {}.", error.message),
    }
}

/// What was typed into the form.
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
            let text = "The form did not arrive as it was filled in. Please go back and send it once more.";
            return pages::message(StatusCode::BAD_REQUEST, "This did not work", text);
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
                super::take_answer(connection, actor, id, answer).await?;
                Ok(Reply::no_content())
            })
        })
        .await;
    match written {
        // On to the page that says so, which can be loaded again without answering again.
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
