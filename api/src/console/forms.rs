//! Forms: what they send, and their inputs with what is wrong with them.

use axum::http::header::SET_COOKIE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, Render, html};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::notice::Notice;
use super::refusal::{Fault, Refusal, Result};
use super::session::{TOKEN, Visit};

/// The field of a form that makes it count once.
const ONCE: &str = "once";

/// The fields of a form, in the order given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The fields of a form that was read.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        // Browsers send line breaks as CR LF.
        Self(pairs.into_iter().map(|(name, value)| (name, value.replace("\r\n", "\n"))).collect())
    }

    /// Takes a field out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes the key out that makes the form count once.
    pub fn take_once(&mut self) -> Option<String> {
        self.take(ONCE)
    }

    /// The value of a field; empty if it is not given.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }

    /// Whether a field is given and not empty.
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A JSON object of these fields as text; an empty one is `null`. Fields that are not given are left out.
    pub fn object(&self, names: &[&str]) -> Map<String, Value> {
        let given = names.iter().filter(|name| self.0.iter().any(|(given, _)| given == *name));
        given.map(|name| ((*name).to_owned(), self.text(name))).collect()
    }

    /// A field as text; `null` if it is empty.
    pub fn text(&self, name: &str) -> Value {
        match self.get(name) {
            "" => Value::Null,
            text => text.into(),
        }
    }

    /// A field as a number if it is one, and else as the text for which the API gives a reason.
    pub fn number(&self, name: &str) -> Value {
        match self.get(name).trim() {
            "" => Value::Null,
            text => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number),
        }
    }
}

impl<'a> FromIterator<(&'a str, String)> for Fields {
    fn from_iter<T: IntoIterator<Item = (&'a str, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// What a form shows: the values of its inputs, and why the last attempt was refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// The values.
    pub values: Fields,
    /// The reason.
    pub refusal: Option<Refusal>,
}

impl Draft {
    /// A form with values.
    pub fn of(values: Fields) -> Self {
        Self { values, refusal: None }
    }

    /// A form that was refused.
    ///
    /// # Errors
    /// The refusal itself, if it is not about the input.
    pub fn refused(values: Fields, refusal: Refusal) -> Result<Self> {
        if refusal.is_about_input() { Ok(Self { values, refusal: Some(refusal) }) } else { Err(refusal) }
    }

    /// The status of the page that shows the form.
    pub fn status(&self) -> StatusCode {
        self.refusal.as_ref().map_or(StatusCode::OK, |refusal| refusal.status)
    }

    /// An input of this form.
    pub fn input(&self, name: &'static str, label: impl Into<String>) -> Input {
        let wrong = self.refusal.as_ref().and_then(|refusal| refusal.about(name)).map(str::to_owned);
        Input {
            name,
            label: label.into(),
            kind: Kind::Text("text"),
            value: self.values.get(name).to_owned(),
            values: self.values.all(name).map(str::to_owned).collect(),
            wrong,
            hint: None,
            required: false,
            autocomplete: "off",
        }
    }

    /// Why the form was refused, with a link to each input that is wrong.
    pub fn problems(&self) -> Markup {
        let Some(refusal) = &self.refusal else { return html! {} };
        html! {
            div.problems role="alert" {
                p { (refusal.message) }
                @if !refusal.errors.is_empty() {
                    ul { @for fault in &refusal.errors { li { (self.fault(fault)) } } }
                }
            }
        }
    }

    fn fault(&self, fault: &Fault) -> Markup {
        let has_input = self.values.iter().any(|(name, _)| name == fault.field);
        html! {
            @if has_input { a href=(format!("#f-{}", fault.field)) { (fault.field) } } @else { code { (fault.field) } }
            " " (fault.message)
        }
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Text(&'static str),
    Area { rows: u8 },
    Choice(Vec<(String, String)>),
    Checks(Vec<(String, String)>),
    Flag,
}

/// An input with its label, hint and fault.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    name: &'static str,
    label: String,
    kind: Kind,
    value: String,
    values: Vec<String>,
    wrong: Option<String>,
    hint: Option<String>,
    required: bool,
    autocomplete: &'static str,
}

impl Input {
    /// With an HTML type, such as `email`, `number`, `date` or `datetime-local`.
    pub fn kind(self, kind: &'static str) -> Self {
        Self { kind: Kind::Text(kind), ..self }
    }

    /// With several lines.
    pub fn area(self, rows: u8) -> Self {
        Self { kind: Kind::Area { rows }, ..self }
    }

    /// With a choice of values and their labels.
    pub fn choice<V: Into<String>, L: Into<String>>(self, options: impl IntoIterator<Item = (V, L)>) -> Self {
        let options = options.into_iter().map(|(value, label)| (value.into(), label.into())).collect();
        Self { kind: Kind::Choice(options), ..self }
    }

    /// With any number of these values, which are sent as one field each.
    pub fn checks<V: Into<String>, L: Into<String>>(self, options: impl IntoIterator<Item = (V, L)>) -> Self {
        let options = options.into_iter().map(|(value, label)| (value.into(), label.into())).collect();
        Self { kind: Kind::Checks(options), ..self }
    }

    /// Either `true` or not sent.
    pub fn flag(self) -> Self {
        Self { kind: Kind::Flag, ..self }
    }

    /// With a value unless the form has one.
    pub fn or(self, value: impl Into<String>) -> Self {
        if self.value.is_empty() { Self { value: value.into(), ..self } } else { self }
    }

    /// Must be given.
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// With a sentence about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn described_by(&self) -> Option<String> {
        let hint = self.hint.as_ref().map(|_| format!("h-{}", self.name));
        let wrong = self.wrong.as_ref().map(|_| format!("w-{}", self.name));
        let ids: Vec<String> = [hint, wrong].into_iter().flatten().collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }

    fn control(&self) -> Markup {
        let id = format!("f-{}", self.name);
        let (by, invalid) = (self.described_by(), self.wrong.as_ref().map(|_| "true"));
        html! {
            @match &self.kind {
                Kind::Text(kind) => input id=(id) type=(kind) name=(self.name) value=(self.value) required[self.required]
                    step=[(*kind == "number").then_some("any")] autocomplete=(self.autocomplete)
                    aria-invalid=[invalid] aria-describedby=[by];,
                Kind::Area { rows } => textarea id=(id) name=(self.name) rows=(rows) required[self.required]
                    aria-invalid=[invalid] aria-describedby=[by] { "\n" (self.value) },
                Kind::Choice(options) => select id=(id) name=(self.name) required[self.required]
                    aria-invalid=[invalid] aria-describedby=[by] {
                    @for (value, label) in options {
                        option value=(value) selected[*value == self.value] { (label) }
                    }
                },
                Kind::Flag => input id=(id) type="checkbox" name=(self.name) value="true" checked[self.value == "true"]
                    aria-invalid=[invalid] aria-describedby=[by];,
                Kind::Checks(options) => @for (at, (value, label)) in options.iter().enumerate() {
                    label.check {
                        input id=[(at == 0).then_some(&id)] type="checkbox" name=(self.name) value=(value)
                            checked[self.values.contains(value)];
                        " " (label)
                    }
                },
            }
        }
    }

    fn notes(&self) -> Markup {
        html! {
            @if let Some(hint) = &self.hint { p.hint id=(format!("h-{}", self.name)) { (hint) } }
            @if let Some(wrong) = &self.wrong { p.wrong id=(format!("w-{}", self.name)) { (self.label) " " (wrong) } }
        }
    }
}

impl Render for Input {
    fn render(&self) -> Markup {
        let id = format!("f-{}", self.name);
        match self.kind {
            Kind::Checks(_) => html! {
                fieldset.field aria-describedby=[self.described_by()] {
                    legend { (self.label) }
                    (self.control())
                    (self.notes())
                }
            },
            Kind::Flag => html! {
                div.field { label.check for=(id) { (self.control()) " " (self.label) } (self.notes()) }
            },
            _ => html! {
                div.field {
                    label for=(id) { (self.label) @if self.required { span.quiet { " (required)" } } }
                    (self.control())
                    (self.notes())
                }
            },
        }
    }
}

/// Whoever has the token of a session that its forms send.
pub(crate) trait FormToken {
    /// The token.
    fn form_token(&self) -> &str;
}

/// A form that changes something: with the token of the session, and made once however often it is sent.
pub(crate) fn form(visit: &impl FormToken, action: &str, content: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            (hidden(visit))
            (content)
        }
    }
}

/// A form in a part that lives: the same each time it is rendered. `once` says what is done at most once.
pub(crate) fn steady_form(visit: &impl FormToken, action: &str, once: &str, content: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            (hidden_once(visit, once))
            (content)
        }
    }
}

/// The hidden fields of a form.
pub(crate) fn hidden(visit: &impl FormToken) -> Markup {
    hidden_once(visit, &Uuid::now_v7().to_string())
}

fn hidden_once(visit: &impl FormToken, once: &str) -> Markup {
    html! {
        input type="hidden" name=(TOKEN) value=(visit.form_token());
        input type="hidden" name=(ONCE) value=(once);
    }
}

/// A form with a button only.
pub(crate) fn button(visit: &impl FormToken, action: &str, label: &str) -> Markup {
    form(visit, action, &html! { button type="submit" { (label) } })
}

/// A button that first says what it will do and how to undo it. Works without scripts.
pub(crate) fn confirmed(visit: &impl FormToken, action: &str, label: &str, what: &Markup) -> Markup {
    explained_once(visit, action, (&Uuid::now_v7().to_string(), true), label, what)
}

/// As [`confirmed`], for what destroys nothing.
pub(crate) fn explained(visit: &impl FormToken, action: &str, label: &str, what: &Markup) -> Markup {
    explained_once(visit, action, (&Uuid::now_v7().to_string(), false), label, what)
}

/// As [`confirmed`], in a part that lives. See [`steady_form`].
pub(crate) fn confirmed_once(visit: &impl FormToken, action: &str, once: &str, label: &str, what: &Markup) -> Markup {
    explained_once(visit, action, (once, true), label, what)
}

/// As [`explained`], in a part that lives, with what it is about for people who do not see its row.
pub(crate) fn explained_steadily(visit: &impl FormToken, action: &str, label: &str, of: &str, what: &Markup) -> Markup {
    html! {
        details.confirm {
            summary.button { (label) span.hidden { " " (of) } }
            div.popover {
                p { (what) }
                (steady_form(visit, action, label, &html! { button type="submit" { (label) span.hidden { " " (of) } } }))
            }
        }
    }
}

fn explained_once(
    visit: &impl FormToken,
    action: &str,
    (once, danger): (&str, bool),
    label: &str,
    what: &Markup,
) -> Markup {
    html! {
        details.confirm {
            summary.button.danger[danger] { (label) }
            div.popover {
                p { (what) }
                (steady_form(visit, action, once, &html! { button.danger[danger] type="submit" { (label) } }))
            }
        }
    }
}

/// Leads to a page after a form, which says what was done.
pub(crate) fn done(visit: &Visit, path: &str, notice: &Notice) -> Response {
    let mut answer = Redirect::to(path).into_response();
    if let Some(cookie) = notice.cookie(&visit.state) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

/// The method of an update.
pub(crate) const UPDATE: Method = Method::PATCH;
