//! Forms that create and update records, and conflicts.
//!
//! A form has the version that it shows (`etag`) and the texts of its inputs as they were (`was`). So only what a
//! person changed is sent, and if somebody else changed the record meanwhile, the form knows who changed what.

use axum::http::{Method, StatusCode};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;
use shared::records::Record;

use super::fields::{self, Field, inputs, label, texts};
use super::people::{People, text_in};
use super::{Json, Noun, api_of, page_of};
use crate::console::CONSOLE;
use crate::console::crm::{Change, Listing, Versioned};
use crate::console::forms::{Draft, Fields, UPDATE, done, form};
use crate::console::layout::page_with;
use crate::console::links::link;
use crate::console::notice::Notice;
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{Id, Sent, Visit};

const ETAG: &str = "etag";
const WAS: &str = "was";

/// A form of a record.
pub(crate) struct Form {
    /// The heading.
    pub title: String,
    /// Where it is sent.
    pub action: String,
    /// Where it leads when it is cancelled or done.
    pub back: String,
    /// What its button says.
    pub submit: &'static str,
}

impl Form {
    /// The page with the form.
    pub fn page(&self, visit: &Visit, draft: &Draft, content: &Markup) -> Response {
        let content = html! {
            (parts::head(&self.title, &html! {}))
            (draft.problems())
            (form(visit, &self.action, &html! {
                (content)
                div.actions {
                    button.primary type="submit" { (self.submit) }
                    a.button href=(self.back) { "Cancel" }
                }
            }))
        };
        page_with(draft.status(), visit, &self.title, &content)
    }
}

/// Shows the form of a new record. Parameters of the URL fill it in.
pub(super) async fn new<R: Noun>(visit: Visit) -> Result<Response> {
    let fields = fields::writable::<R>();
    let value = |field: &Field| visit.parameter(field.name).map_or_else(|| field.initial(), str::to_owned);
    let values = fields.iter().map(|field| (field.name, value(field))).collect();
    show_new::<R>(&visit, &fields, &Draft::of(values)).await
}

async fn show_new<R: Noun>(visit: &Visit, fields: &[Field], draft: &Draft) -> Result<Response> {
    let people = People::users(visit).await?;
    let list = format!("{CONSOLE}{}", R::PATH);
    let form = Form { title: format!("New {}", R::ONE), action: list.clone(), back: list, submit: "Create" };
    Ok(form.page(visit, draft, &html! { (conflicts::<R>(draft)) (inputs(fields, draft, &people)) }))
}

/// Creates a record.
pub(super) async fn create<R: Noun>(Sent { visit, fields: mut sent }: Sent) -> Result<Response> {
    let once = sent.take_once();
    let fields = fields::writable::<R>();
    match send_new(&visit, R::PATH, &fields, &sent, once).await {
        Ok(created) => {
            let title = created.as_object().map(R::title).unwrap_or_default();
            let id = created["id"].as_str().unwrap_or_default();
            Ok(done(&visit, &page_of::<R>(id), &Notice::of(format!("Created {title}."))))
        }
        Err(refusal) => show_new::<R>(&visit, &fields, &Draft::refused(sent, refusal)?).await,
    }
}

/// Sends what was entered for a new record.
pub(super) async fn send_new(
    visit: &Visit,
    api: &str,
    fields: &[Field],
    sent: &Fields,
    once: Option<String>,
) -> Result<Value> {
    let mut body = entered(visit, fields, sent)?;
    find_customer(visit, &mut body).await?;
    visit.crm.send(Method::POST, api, Change::with(body.into()).once(once)).await
}

/// The body of what was entered; what is empty is left out.
pub(crate) fn entered(visit: &Visit, fields: &[Field], sent: &Fields) -> Result<Json> {
    let given = fields.iter().filter(|field| !sent.get(field.name).trim().is_empty());
    given.map(|field| Ok((field.name.to_owned(), field.value(visit.zone, sent)?))).collect()
}

/// A customer may be given by their email.
async fn find_customer(visit: &Visit, body: &mut Json) -> Result<(), Refusal> {
    let Some(email) = text_in(body, "customer_id").filter(|text| text.contains('@')) else { return Ok(()) };
    let path = link("/customers", [("email", email), ("fields", "id"), ("limit", "1")]);
    let mut found: Listing<Json> = visit.crm.list(&path).await?;
    let customer = found.items.pop().and_then(|mut customer| customer.remove("id"));
    let id = customer.ok_or_else(|| Refusal::of_field("customer_id", "is not the email of a customer"))?;
    body.insert("customer_id".to_owned(), id);
    Ok(())
}

/// Shows the form of a record.
pub(super) async fn edit<R: Noun>(visit: Visit, Id(id): Id) -> Result<Response> {
    show::<R>(&visit, &api_of::<R>(id), |record| form_of::<R>(id, record)).await
}

/// Updates a record.
pub(super) async fn save<R: Noun>(Id(id): Id, Sent { visit, fields }: Sent) -> Result<Response> {
    update::<R>(&visit, fields, &api_of::<R>(id), |record| form_of::<R>(id, record)).await
}

fn form_of<R: Noun>(id: uuid::Uuid, record: &Json) -> Form {
    let page = page_of::<R>(id);
    Form { title: format!("Edit {}", R::title(record)), action: format!("{page}/edit"), back: page, submit: "Save" }
}

/// Shows the form of what is stored at a path of the API.
pub(super) async fn show<R: Record>(visit: &Visit, api: &str, form: impl Fn(&Json) -> Form) -> Result<Response> {
    let (stored, people) = tokio::try_join!(visit.crm.record::<Json>(api), People::users(visit))?;
    let fields = fields::writable::<R>();
    let was = texts(&fields, visit.zone, &stored.record);
    let draft = Draft::of(was.clone());
    let content = html! { (version(&stored.etag, &was)) (inputs(&fields, &draft, &people)) };
    Ok(form(&stored.record).page(visit, &draft, &content))
}

/// Updates what is stored at a path of the API, if it still has the version of the form.
pub(super) async fn update<R: Record>(
    visit: &Visit,
    mut sent: Fields,
    api: &str,
    form: impl Fn(&Json) -> Form,
) -> Result<Response> {
    let (etag, was) = (sent.take(ETAG), sent.take(WAS).unwrap_or_default());
    let was = texts_of(&was);
    let fields = fields::writable::<R>();
    let refusal = match change(visit, &fields, &sent, &was, api, etag.clone()).await {
        Ok(changed) => {
            let text = if changed { "Saved." } else { "Nothing was changed." };
            return Ok(done(visit, &form(&Json::new()).back, &Notice::of(text)));
        }
        Err(refusal) => refusal,
    };
    let (stored, people) = tokio::try_join!(visit.crm.record::<Json>(api), People::users(visit))?;
    if refusal.status == StatusCode::PRECONDITION_FAILED {
        return Ok(conflict(visit, &form(&stored.record), &fields, &people, &stored, (&sent, &was)));
    }
    let draft = Draft::refused(sent, refusal)?;
    let content = html! { (version(&etag.unwrap_or_default(), &was)) (inputs(&fields, &draft, &people)) };
    Ok(form(&stored.record).page(visit, &draft, &content))
}

/// Sends what was changed; returns whether anything was.
async fn change(
    visit: &Visit,
    fields: &[Field],
    sent: &Fields,
    was: &Fields,
    api: &str,
    etag: Option<String>,
) -> Result<bool> {
    let is_sent = |name: &str| sent.iter().any(|(given, _)| given == name);
    let changed = fields.iter().filter(|field| is_sent(field.name) && sent.get(field.name) != was.get(field.name));
    let body: Result<Json> = changed.map(|field| Ok((field.name.to_owned(), field.value(visit.zone, sent)?))).collect();
    let mut body = body?;
    if body.is_empty() {
        return Ok(false);
    }
    find_customer(visit, &mut body).await?;
    visit.crm.send(UPDATE, api, Change::with(body.into()).if_match(etag)).await?;
    Ok(true)
}

/// The version that a form shows, and its texts.
fn version(etag: &str, was: &Fields) -> Markup {
    let was: Json = was.iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    html! {
        input type="hidden" name=(ETAG) value=(etag);
        input type="hidden" name=(WAS) value=(Value::Object(was));
    }
}

fn texts_of(was: &str) -> Fields {
    let was: Json = serde_json::from_str(was).unwrap_or_default();
    let texts = was.iter().map(|(name, text)| (name.as_str(), lines(text.as_str().unwrap_or_default())));
    texts.collect()
}

/// A text as a browser sends it back.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The page on which a person chooses between what is stored and what they entered.
fn conflict(
    visit: &Visit,
    form: &Form,
    fields: &[Field],
    people: &People,
    stored: &Versioned<Json>,
    (entered, was): (&Fields, &Fields),
) -> Response {
    let present = texts(fields, visit.zone, &stored.record);
    let now = |field: &Field| lines(present.get(field.name));
    let (same, different): (Vec<&Field>, Vec<&Field>) =
        fields.iter().partition(|field| entered.get(field.name) == now(field));
    let content = html! {
        (version(&stored.etag, &present))
        @for field in same { input type="hidden" name=(field.name) value=(present.get(field.name)); }
        div.problems role="alert" {
            p { "Somebody changed this while you edited it, and nothing of yours was saved. Choose what to keep, and save again." }
        }
        @if different.is_empty() {
            p { "What is stored now is what you entered." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Differences" {
                table.choices {
                    caption.hidden { "Differences between what is stored and what you entered" }
                    thead { tr { th scope="col" { "Field" } th scope="col" { "Stored now" } th scope="col" { "You entered" } } }
                    tbody {
                        @for field in different {
                            (choice(people, field, &now(field), entered.get(field.name), was.get(field.name)))
                        }
                    }
                }
            }
        }
    };
    let mut page = form.page(visit, &Draft::default(), &content);
    *page.status_mut() = StatusCode::PRECONDITION_FAILED;
    page
}

/// A field of which a person keeps one value. What only one side changed is chosen already.
fn choice(people: &People, field: &Field, now: &str, mine: &str, was: &str) -> Markup {
    let shown = |text: &str| match text {
        "" => html! { span.quiet { "Empty" } },
        id if field.name == fields::OWNER => people.user(id),
        text => html! { (text) },
    };
    let option = |at: &str, text: &str, is_chosen: bool| {
        let id = format!("{at}-{}", field.name);
        html! {
            td {
                label.check.lines for=(id) {
                    input id=(id) type="radio" name=(field.name) value=(text) required checked[is_chosen]
                        aria-describedby={ "of-" (field.name) };
                    " " (shown(text))
                }
            }
        }
    };
    html! {
        tr {
            th scope="row" id={ "of-" (field.name) } { (label(field.name)) }
            (option("now", now, mine == was))
            (option("mine", mine, now == was && mine != was))
        }
    }
}

/// Links to the records with which a new one conflicts.
fn conflicts<R: Noun>(draft: &Draft) -> Markup {
    let faults = draft.refusal.iter().flat_map(|refusal| &refusal.errors);
    let taken = faults.filter(|fault| fault.code == "taken").filter_map(|fault| fault.id.as_deref());
    html! { @for id in taken { p { a href=(page_of::<R>(id)) { "Show the other " (R::ONE) } } } }
}
