//! Templates of emails: from a template and its variables to a subject, a plain text and an HTML
//! body.
//!
//! A template is a subject and a body of plain text in Jinja's syntax. The HTML is generated from
//! the same text and inserted into `config/templates/layout.html`. Inserted values are data
//! everywhere: they are escaped, stay on one line, and are never interpreted as a template, a link
//! or a list.

mod check;
mod engine;
mod foreign_links;
pub mod hostile;
mod markup;
pub mod samples;
mod syntax;
#[cfg(test)]
mod tests;
mod threads;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::mail::event::Event;
use crate::values::{Line, Text};

pub(crate) use check::CODE as TEMPLATE_FAULT;
pub use check::{BODY, SUBJECT, check, check_part};
use markup::Marked;
pub(crate) use threads::aside;

/// The subject of a template.
pub type Subject = Line<200>;
/// The body of a template.
pub type Body = Text<10_000>;

/// The most items in a digest. The next digest has the others.
pub const MAX_ITEMS: usize = 1_000;
/// The most bytes of a rendered body.
const MAX_BYTES: usize = 1024 * 1024;

/// A subject and a body, in Jinja's syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// One line, at most 200 characters.
    pub subject: String,
    /// Plain text, at most 10,000 characters. Empty lines separate paragraphs, lines that start
    /// with `- ` form a list, and `[label](link)` on a separate line is a button.
    pub body: String,
}

/// The templates other than those of the nurture sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Templates {
    /// The digest of a user's follow-ups.
    pub followups: Template,
    /// The request for feedback to a customer.
    pub feedback_request: Template,
    /// The reminder of a request for feedback.
    pub feedback_reminder: Template,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            followups: shipped(include_str!("../../../config/templates/followups.txt")),
            feedback_request: shipped(include_str!("../../../config/templates/feedback_request.txt")),
            feedback_reminder: shipped(include_str!("../../../config/templates/feedback_reminder.txt")),
        }
    }
}

impl Templates {
    /// The template of an event; `None` for the nurture sequence, where each step has its own, and for
    /// those that no workspace changes.
    pub fn get(&self, name: Event) -> Option<&Template> {
        match name {
            Event::Nurture | Event::WebhookDisabled | Event::Test => None,
            Event::Followups => Some(&self.followups),
            Event::FeedbackRequest => Some(&self.feedback_request),
            Event::FeedbackReminder => Some(&self.feedback_reminder),
        }
    }

    pub(crate) fn get_mut(&mut self, name: Event) -> Option<&mut Template> {
        match name {
            Event::Nurture | Event::WebhookDisabled | Event::Test => None,
            Event::Followups => Some(&mut self.followups),
            Event::FeedbackRequest => Some(&mut self.feedback_request),
            Event::FeedbackReminder => Some(&mut self.feedback_reminder),
        }
    }
}

/// The templates of the default nurture sequence.
pub(crate) fn shipped_sequence() -> [Template; 3] {
    [
        shipped(include_str!("../../../config/templates/nurture-1.txt")),
        shipped(include_str!("../../../config/templates/nurture-2.txt")),
        shipped(include_str!("../../../config/templates/nurture-3.txt")),
    ]
}

/// The template of the email about a webhook that was disabled, which no workspace changes.
pub(crate) fn webhook_disabled() -> Template {
    shipped(include_str!("../../../config/templates/webhook_disabled.txt"))
}

/// Parses a template file: the subject on the first line, then an empty line and the body.
fn shipped(file: &str) -> Template {
    let (subject, body) = file.split_once('\n').unwrap_or((file, ""));
    let subject = subject.strip_prefix("Subject: ").unwrap_or(subject);
    Template { subject: subject.to_owned(), body: body.trim().to_owned() }
}

/// The rendered content of an email.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rendered {
    /// The subject, on one line.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML.
    pub html: String,
}

/// The templates of a workspace, compiled once for any number of emails.
pub struct Renderer {
    /// One for each event, since fuel depends on the event.
    environments: HashMap<Event, Environment<'static>>,
    /// Each template by its name: its event and the names of its subject and body in the
    /// environment, or the error.
    templates: HashMap<String, Result<(Event, [String; 2]), String>>,
}

/// How many emails are rendered before other renderings get their turn.
const PER_TURN: usize = 50;

impl Renderer {
    /// Compiles templates, each with its name and event. A template that was saved under older,
    /// less strict rules may not compile; it fails only the emails that use it.
    pub async fn read(templates: Vec<(String, Event, Template)>) -> Result<Arc<Self>> {
        aside(move || Arc::new(Self::new(templates))).await
    }

    pub(crate) fn new(templates: Vec<(String, Event, Template)>) -> Self {
        let mut renderer = Self::none();
        for (name, event, Template { subject, body }) in templates {
            renderer.add(&name, event, &subject, &body);
        }
        renderer
    }

    fn none() -> Self {
        Self { environments: HashMap::new(), templates: HashMap::new() }
    }

    /// Compiles one template under a name.
    fn add(&mut self, name: &str, event: Event, subject: &str, body: &str) {
        let names = [SUBJECT, BODY].map(|part| format!("{name}.{part}"));
        let environment = self.environments.entry(event).or_insert_with(|| engine::environment(event));
        let mut parts = names.iter().zip([subject, body]);
        let added = parts.try_for_each(|(name, source)| check::compile(environment, name, source));
        self.templates.insert(name.to_owned(), added.map(|()| (event, names)));
    }

    /// Renders templates, each by its name with its context. [`samples`] shows the variables of
    /// each event. An email that cannot be rendered gets an error of its own, [`Error::Internal`].
    ///
    /// # Errors
    /// [`Error::Repeat`] if rendering exceeds its deadline.
    pub async fn render_all(self: &Arc<Self>, emails: Vec<(String, Json)>) -> Result<Vec<Result<Rendered>>> {
        let mut rendered = Vec::with_capacity(emails.len());
        let mut emails = emails.into_iter().peekable();
        while emails.peek().is_some() {
            let (renderer, turn): (_, Vec<_>) = (self.clone(), emails.by_ref().take(PER_TURN).collect());
            let render = move || turn.iter().map(|(name, context)| renderer.render(name, context)).collect::<Vec<_>>();
            rendered.extend(aside(render).await?);
        }
        Ok(rendered)
    }

    /// Renders one template, as [`Renderer::render_all`] does.
    pub async fn render_one(self: &Arc<Self>, name: &str, context: Json) -> Result<Result<Rendered>> {
        let mut rendered = self.render_all(vec![(name.to_owned(), context)]).await?;
        rendered.pop().ok_or_else(|| Error::internal("no email was rendered"))
    }

    pub(crate) fn render(&self, name: &str, context: &Json) -> Result<Rendered> {
        let template = self.templates.get(name).ok_or_else(|| Error::internal(format!("unknown template {name}")))?;
        let (event, [subject, body]) =
            template.as_ref().map_err(|fault| Error::internal(format!("template {name}: {fault}")))?;
        let context = Value::from(Serde(context));
        let subject = markup::one_line(&self.run(*event, subject, &context)?);
        let body = self.run(*event, body, &context)?;
        finish(subject, &body, &context)
    }

    fn run(&self, event: Event, name: &str, context: &Value) -> Result<String> {
        let environment =
            self.environments.get(&event).ok_or_else(|| Error::internal("no environment for the event"))?;
        let template = environment.get_template(name).map_err(broken)?;
        template.render(context).map_err(broken)
    }
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.templates.keys()).finish()
    }
}

fn broken(error: minijinja::Error) -> Error {
    Error::internal(format!("template {}: {}", error.name().unwrap_or("?"), check::describe(&error)))
}

/// The variables of the layouts.
#[derive(Serialize)]
struct Layout<'a> {
    subject: &'a str,
    content: &'a str,
    unsubscribe_url: Option<&'a str>,
}

/// Inserts a subject and a body, as the engine wrote it, into the layouts.
fn finish(subject: String, body: &str, context: &Value) -> Result<Rendered> {
    let [url, unsubscribe_url] = ["url", "unsubscribe_url"].map(|name| context.get_attr(name).unwrap_or_default());
    let links: Vec<&str> = [&url, &unsubscribe_url].into_iter().filter_map(Value::as_str).collect();
    let body = Marked::read(body, &links);
    if body.len() > MAX_BYTES {
        return Err(Error::internal("the rendered body is larger than 1 MiB"));
    }
    let text = body.to_text();
    // A body that contains the link to unsubscribe needs no footer.
    let unsubscribe_url = unsubscribe_url.as_str().filter(|url| !text.contains(url));
    let html = in_layout("layout.html", &Layout { subject: &subject, content: &body.to_html(), unsubscribe_url })?;
    let text = in_layout("layout.txt", &Layout { subject: &subject, content: &text, unsubscribe_url })?;
    Ok(Rendered { subject, text, html })
}

fn in_layout(name: &str, layout: &Layout) -> Result<String> {
    static LAYOUTS: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
        let mut layouts = Environment::new();
        layouts.set_formatter(markup::write_escaped);
        layouts.add_template("layout.html", include_str!("../../../config/templates/layout.html"))?;
        layouts.add_template("layout.txt", include_str!("../../../config/templates/layout.txt"))?;
        Ok(layouts)
    });
    let layouts = LAYOUTS.as_ref().map_err(|error| Error::internal(error.to_string()))?;
    let context = Value::from(Serde(layout));
    layouts.get_template(name).and_then(|template| template.render(context)).map_err(broken)
}
