//! Renders an email without sending it, or sends it to a user as a test.

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use utoipa::openapi::schema::{AdditionalProperties, OneOfBuilder, Schema};
use utoipa::openapi::{ObjectBuilder, RefOr};
use uuid::Uuid;

use crate::accounts::settings::{self, Settings};
use crate::accounts::users::User;
use crate::crm::customers::Customer;
use crate::crm::leads::Lead;
use crate::error::{Error, FieldError, FieldErrors, Reason, Result};
use crate::events::Actor;
use crate::mail::action_urls::Action;
use crate::mail::templates::{
    BODY, Body, MAX_ITEMS, Rendered, Renderer, SUBJECT, Subject, TEMPLATE_FAULT, Template, aside, check_part, samples,
};
use crate::mail::{self, Event, NewEmail, Queued, WholeEmail};
use crate::platform::config;
use crate::records::{self, Place, Record, RecordType};
use crate::values::json_body::Object;
use crate::values::json_schema::{Shape, closed};
use crate::values::patch::Patch;
use crate::values::{Company, Email, Name};

/// The process's settings that a preview needs.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// The base URL of links.
    pub public_url: &'a str,
    /// The default sender, for workspaces that do not set one.
    pub mail: &'a config::Mail,
}

/// The parsed request body.
struct Request {
    event: Event,
    template: Template,
    lead_id: Option<Uuid>,
    customer_id: Option<Uuid>,
    sample: Map<String, Value>,
}

/// The field that names the recipient of a test.
const USER: &str = "user_id";
/// What the subject of a test begins with.
const MARK: &str = "[Test] ";
/// The template's name in the renderer.
const NAME: &str = "preview";

/// Renders the email that the request body describes.
///
pub async fn preview(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    server: Server<'_>,
    body: Object,
) -> Result<Rendered> {
    let settings = settings::get(connection, workspace_id).await?;
    let (settings, request) = aside(move || {
        let request = read(body, &settings);
        (settings, request)
    })
    .await?;
    let Request { event, template, lead_id, customer_id, sample } = request?;
    let mut context = samples::full(event);
    if let Some(id) = lead_id {
        let lead: Lead = referred(connection, workspace_id, "lead_id", id).await?;
        context["lead"] = person((&lead.name, lead.first_name.as_ref()), &lead.email, lead.company.as_ref());
    }
    if let Some(id) = customer_id {
        let customer: Customer = referred(connection, workspace_id, "customer_id", id).await?;
        let names = (&customer.name, customer.first_name.as_ref());
        context["customer"] = person(names, &customer.email, customer.company.as_ref());
    }
    if context.get("sender").is_some() {
        let sender = settings::sender(connection, workspace_id, &settings, server.mail).await?;
        context["sender"] = json!({ "name": sender.name });
    }
    for (name, action) in [("url", Action::Feedback), ("unsubscribe_url", Action::Unsubscribe)] {
        if context.get(name).is_some() {
            context[name] = json!(action.preview_url(server.public_url));
        }
    }
    merge(&mut context, sample)?;
    let rendered = aside(move || {
        let renderer = Renderer::new(vec![(NAME.to_owned(), event, template)]);
        renderer.render(NAME, &context)
    });
    // The template passed validation, so an error here comes from the sample values.
    rendered.await?.map_err(|error| Error::invalid("template", TEMPLATE_FAULT, error.to_string()))
}

/// Writes the email that the request body describes to the user that it names. Links in it lead nowhere, and it
/// is no bulk email: a lead or a customer in it gets nothing. After the commit the caller notifies
/// [`QUEUE`](mail::QUEUE).
///
/// # Errors
/// [`Error::Invalid`] for a template or values that could not be previewed, [`Error::Missing`] for a record that
/// does not exist, [`Error::Conflict`] if the user's address is suppressed.
pub async fn test(
    connection: &mut PgConnection,
    actor: &Actor,
    server: Server<'_>,
    mut body: Object,
) -> Result<WholeEmail> {
    let workspace_id = actor.workspace_id;
    let user_id = body.required::<Uuid>(USER);
    let mut content = preview(connection, workspace_id, server, body).await?;
    let user_id = user_id.ok_or_else(|| Error::internal("a body was accepted without a user"))?;
    let user: User = referred(connection, workspace_id, USER, user_id).await?;
    content.subject.insert_str(0, MARK);
    let settings = settings::get(connection, workspace_id).await?;
    let sender = settings::sender(connection, workspace_id, &settings, server.mail).await?;
    let id = Uuid::now_v7();
    let email = NewEmail {
        id,
        event: Event::Test,
        event_key: format!("test:{id}"),
        subject: Some((RecordType::User, user_id)),
        to_name: Some(user.name.as_ref().to_owned()),
        to_email: user.email,
        content,
        unsubscribe: None,
        time_zone: None,
    };
    match mail::queue(connection, actor, &sender, &[email]).await?.first() {
        Some(Queued::Suppressed) => {
            Err(Error::conflict_with(user_id, Reason::Suppressed, USER, "the user's address is suppressed"))
        }
        _ => mail::get(connection, workspace_id, id).await,
    }
}

/// Returns a record that the body refers to.
async fn referred<R: Record>(connection: &mut PgConnection, workspace_id: Uuid, field: &str, id: Uuid) -> Result<R> {
    records::get(connection, workspace_id, Place { parent: None, id }).await.map_err(|error| match error {
        Error::NotFound => Error::missing(field),
        other => other,
    })
}

fn person((name, first_name): (&Name, Option<&Name>), email: &Email, company: Option<&Company>) -> Value {
    json!({ "name": name, "first_name": name.greeting(first_name), "email": email, "company": company })
}

fn read(mut body: Object, settings: &Settings) -> Result<Request> {
    let lead_id: Option<Uuid> = body.present("lead_id");
    let customer_id: Option<Uuid> = body.present("customer_id");
    let event: Option<Event> = body.present("event");
    let named = body.text("template").map(|name| stored(settings, name));
    let found = match named {
        Some(found) => {
            let _: Patch<String> = body.take("template");
            if found.is_none() {
                let message = format!("must be a template, a step's id, or one of: {}", names(settings).join(" "));
                body.refuse(FieldError::new("template", "invalid", message));
            }
            if event.is_some() {
                body.refuse(FieldError::new("event", "invalid", "is allowed only with a subject and a body"));
            }
            found
        }
        None => written(
            &mut body,
            event.unwrap_or(if customer_id.is_some() { Event::FeedbackRequest } else { Event::Nurture }),
        ),
    };
    let sample = match body.take_map("sample") {
        Patch::Set(sample) => sample,
        Patch::Keep | Patch::Clear => Map::new(),
    };
    for (field, id, variable) in [("lead_id", lead_id, "lead"), ("customer_id", customer_id, "customer")] {
        if let (Some((event, _)), Some(_)) = (&found, id)
            && samples::full(*event).get(variable).is_none()
        {
            body.refuse(FieldError::new(
                field,
                "invalid",
                format!("{} emails are not about a {variable}", event.as_str()),
            ));
        }
    }
    body.finish()?;
    let (event, template) = found.ok_or_else(|| Error::invalid("template", "required", "is required"))?;
    Ok(Request { event, template, lead_id, customer_id, sample })
}

/// The names of stored templates.
fn names(settings: &Settings) -> Vec<&'static str> {
    Event::ALL.iter().filter(|event| settings.templates.get(**event).is_some()).map(|event| event.as_str()).collect()
}

/// Returns a stored template by its name or its step's id.
fn stored(settings: &Settings, name: &str) -> Option<(Event, Template)> {
    if let Some(step) = settings.nurture_sequence.iter().find(|step| step.id.to_string() == name) {
        let template = Template { subject: step.subject.clone(), body: step.body.clone() };
        return Some((Event::Nurture, template));
    }
    let event = Event::from_word(name)?;
    Some((event, settings.templates.get(event)?.clone()))
}

/// Returns the template given in the body.
fn written(body: &mut Object, event: Event) -> Option<(Event, Template)> {
    let mut object = match body.open("template") {
        Patch::Set(object) => object,
        Patch::Keep | Patch::Clear => return None,
    };
    let subject: Option<Subject> = object.required("subject");
    let text: Option<Body> = object.required("body");
    let (subject, text) = (subject.as_ref().map(AsRef::as_ref), text.as_ref().map(AsRef::as_ref));
    for (part, source) in [(SUBJECT, subject), (BODY, text)] {
        let fault = source.and_then(|source| check_part(event, part, source));
        fault.into_iter().for_each(|fault| object.refuse(fault.of(part)));
    }
    body.close("template", object);
    Some((event, Template { subject: subject?.to_owned(), body: text?.to_owned() }))
}

/// Replaces the example's values with the caller's. A variable that the example lacks is rejected,
/// since no email has it.
fn merge(context: &mut Value, sample: Map<String, Value>) -> Result<()> {
    let mut errors = FieldErrors::default();
    for (name, value) in sample {
        put(context, &name, "sample", value, &mut errors);
    }
    errors.check()
}

fn put(context: &mut Value, name: &str, place: &str, value: Value, errors: &mut FieldErrors) {
    let place = format!("{place}.{name}");
    match (context.get_mut(name), value) {
        (None, _) => errors.push(FieldError::new(place, "unknown", "is not a variable of this email")),
        (Some(inner @ Value::Object(_)), Value::Object(fields)) => {
            fields.into_iter().for_each(|(name, value)| put(inner, &name, &place, value, errors));
        }
        (Some(Value::Array(items)), Value::Array(given)) => put_all(items, &place, given, errors),
        (Some(Value::Object(_) | Value::Array(_)), _) | (_, Value::Object(_) | Value::Array(_)) => {
            errors.push(FieldError::new(place, "invalid", "must have the type of this email's variable"));
        }
        (Some(present), value) => *present = value,
    }
}

/// Returns as many items as the caller gave, each merged over the example's first item.
fn put_all(items: &mut Vec<Value>, place: &str, given: Vec<Value>, errors: &mut FieldErrors) {
    let Some(first) = items.first().cloned() else { return };
    if given.len() > MAX_ITEMS {
        let message = format!("must have at most {} items", MAX_ITEMS);
        return errors.push(FieldError::new(place, "out_of_range", message));
    }
    items.clear();
    for (at, value) in given.into_iter().enumerate() {
        let (mut item, place) = (first.clone(), format!("{place}.{at}"));
        match value {
            Value::Object(fields) => {
                fields.into_iter().for_each(|(name, value)| put(&mut item, &name, &place, value, errors));
            }
            _ => errors.push(FieldError::new(place, "invalid", "must be a JSON object")),
        }
        items.push(item);
    }
}

/// The schema of the body of a test for the OpenAPI document.
pub fn test_schema() -> RefOr<Schema> {
    let user = ObjectBuilder::from(Uuid::shape()).description(Some("The user who gets the email."));
    let object = described().property(USER, user).required(USER);
    closed(
        object.examples([json!({ "template": "feedback_request", "user_id": "019ab000-0000-7000-8000-000000000001" })]),
    )
}

/// The schema of the body of a preview for the OpenAPI document.
pub fn preview_schema() -> RefOr<Schema> {
    closed(described().examples([json!({
        "template": { "subject": "Hello {{ lead.first_name }}", "body": "How is {{ lead.company or 'business' }}?" },
        "sample": { "lead": { "company": null } },
    })]))
}

/// An email in a body.
fn described() -> ObjectBuilder {
    let named = ObjectBuilder::from(String::shape())
        .description(Some("`followups`, `feedback_request`, `feedback_reminder`, or the id of a step."));
    let written = ObjectBuilder::new().property("subject", Subject::shape()).property("body", Body::shape());
    let template = OneOfBuilder::new().item(named).item(closed(written.required("subject").required("body")));
    let event =
        ObjectBuilder::from(Event::shape()).description(Some("The event whose variables a subject and body may use."));
    let sample = ObjectBuilder::new()
        .description(Some("Values in place of the example's, such as `{\"lead\": {\"company\": null}}`."))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)));
    let object = ObjectBuilder::new().description(Some("The email, and whom it is about."));
    let object =
        object.property("template", template.description(Some("The email's subject and body."))).required("template");
    let object = object.property("event", event).property("sample", sample);
    object.property("lead_id", Uuid::shape()).property("customer_id", Uuid::shape())
}
