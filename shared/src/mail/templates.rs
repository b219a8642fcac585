//! The mails: what they say, and how that becomes a subject, a text and a page.
//!
//! A template is a subject and a body of plain text in Jinja's syntax. The HTML of a mail is made of the
//! same text, put into `config/templates/layout.html`. What a template inserts is data wherever it
//! stands: it is escaped, stays on its line, and is never read as a template, a link or a list.

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

/// The most items that a digest has. The others come with the next one.
pub const MAX_ITEMS: usize = 1_000;
/// The most bytes of a rendered body.
const MAX_BYTES: usize = 1024 * 1024;

/// A subject and a body, in Jinja's syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// One line, at most 200 characters.
    pub subject: String,
    /// Plain text, at most 10,000 characters. Paragraphs are set apart by empty lines, lists have lines
    /// that begin with `- `, and `[label](link)` on a line of its own is a button.
    pub body: String,
}

/// The templates beside those of the sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Templates {
    /// The digest of what a user has to do.
    pub followups: Template,
    /// The question to a customer.
    pub feedback_request: Template,
    /// The question once more.
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
    /// The template of an event; a step of the sequence has its own.
    pub fn get(&self, name: Event) -> Option<&Template> {
        match name {
            Event::Nurture => None,
            Event::Followups => Some(&self.followups),
            Event::FeedbackRequest => Some(&self.feedback_request),
            Event::FeedbackReminder => Some(&self.feedback_reminder),
        }
    }

    pub(crate) fn get_mut(&mut self, name: Event) -> Option<&mut Template> {
        match name {
            Event::Nurture => None,
            Event::Followups => Some(&mut self.followups),
            Event::FeedbackRequest => Some(&mut self.feedback_request),
            Event::FeedbackReminder => Some(&mut self.feedback_reminder),
        }
    }
}

/// The templates of the sequence that leads are sent unless a workspace says otherwise.
pub(crate) fn shipped_sequence() -> [Template; 3] {
    [
        shipped(include_str!("../../../config/templates/nurture-1.txt")),
        shipped(include_str!("../../../config/templates/nurture-2.txt")),
        shipped(include_str!("../../../config/templates/nurture-3.txt")),
    ]
}

/// A template as a file: its subject in the first line, and its body behind an empty one.
fn shipped(file: &str) -> Template {
    let (subject, body) = file.split_once('\n').unwrap_or((file, ""));
    let subject = subject.strip_prefix("Subject: ").unwrap_or(subject);
    Template { subject: subject.to_owned(), body: body.trim().to_owned() }
}

/// A mail as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as a page.
    pub html: String,
}

/// The templates of a workspace, read once for any number of emails.
pub struct Renderer {
    /// One for each event, since each has its own fuel.
    environments: HashMap<Event, Environment<'static>>,
    /// Each template by its name: its event and the names of its subject and body in the environment, or
    /// what is wrong with it.
    templates: HashMap<String, Result<(Event, [String; 2]), String>>,
}

/// How many emails are filled in before other renderings get their turn.
const PER_TURN: usize = 50;

impl Renderer {
    /// Reads templates, each with its name and event. One that cannot be read, since it was saved when
    /// templates could say more, fails the emails that it is for and no others.
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

    /// Without any template yet.
    fn none() -> Self {
        Self { environments: HashMap::new(), templates: HashMap::new() }
    }

    /// Reads one template, which is then known by a name.
    fn add(&mut self, name: &str, event: Event, subject: &str, body: &str) {
        let names = [SUBJECT, BODY].map(|part| format!("{name}.{part}"));
        let environment = self.environments.entry(event).or_insert_with(|| engine::environment(event));
        let mut parts = names.iter().zip([subject, body]);
        let added = parts.try_for_each(|(name, source)| check::compile(environment, name, source));
        self.templates.insert(name.to_owned(), added.map(|()| (event, names)));
    }

    /// Fills in templates, each with its context; which variables that must have stands in [`samples`]. An
    /// email that cannot be filled in has its own error, [`Error::Internal`].
    ///
    /// # Errors
    /// [`Error::Repeat`] if that takes longer than it ever should.
    pub async fn render_all(self: &Arc<Self>, emails: Vec<(String, Json)>) -> Result<Vec<Result<Rendered>>> {
        let mut rendered = Vec::with_capacity(emails.len());
        let mut emails = emails.into_iter().peekable();
        while emails.peek().is_some() {
            let (renderer, turn): (_, Vec<_>) = (self.clone(), emails.by_ref().take(PER_TURN).collect());
            let fill_in = move || turn.iter().map(|(name, context)| renderer.render(name, context)).collect::<Vec<_>>();
            rendered.extend(aside(fill_in).await?);
        }
        Ok(rendered)
    }

    /// Fills in one template, as [`Renderer::render_all`] does.
    pub async fn render_one(self: &Arc<Self>, name: &str, context: Json) -> Result<Result<Rendered>> {
        let mut rendered = self.render_all(vec![(name.to_owned(), context)]).await?;
        rendered.pop().ok_or_else(|| Error::internal("nothing was filled in"))
    }

    pub(crate) fn render(&self, name: &str, context: &Json) -> Result<Rendered> {
        let template =
            self.templates.get(name).ok_or_else(|| Error::internal(format!("there is no template {name}")))?;
        let (event, [subject, body]) =
            template.as_ref().map_err(|fault| Error::internal(format!("template {name}: {fault}")))?;
        let context = Value::from(Serde(context));
        let subject = markup::one_line(&self.run(*event, subject, &context)?);
        let body = self.run(*event, body, &context)?;
        finish(subject, &body, &context)
    }

    fn run(&self, event: Event, name: &str, context: &Value) -> Result<String> {
        let environment = self.environments.get(&event).ok_or_else(|| Error::internal("there is no environment"))?;
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

/// The surroundings of every mail.
#[derive(Serialize)]
struct Layout<'a> {
    subject: &'a str,
    content: &'a str,
    unsubscribe_url: Option<&'a str>,
}

/// Puts a subject and a body, as the engine wrote it, into the layouts.
fn finish(subject: String, body: &str, context: &Value) -> Result<Rendered> {
    let [url, unsubscribe_url] = ["url", "unsubscribe_url"].map(|name| context.get_attr(name).unwrap_or_default());
    let links: Vec<&str> = [&url, &unsubscribe_url].into_iter().filter_map(Value::as_str).collect();
    let body = Marked::read(body, &links);
    if body.len() > MAX_BYTES {
        return Err(Error::internal("a template made a mail of more than 1 MiB"));
    }
    let text = body.to_text();
    // A body that tells how to unsubscribe need not be told again.
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
