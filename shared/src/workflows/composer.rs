//! Emails to leads and customers, from the templates of their workspace.

use std::sync::Arc;

use chrono_tz::Tz;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::accounts::settings::{self, Settings};
use crate::error::Result;
use crate::mail::action_urls::{Action, ActionUrls};
use crate::mail::templates::Renderer;
use crate::mail::{Event, NewEmail, Sender};
use crate::records::RecordType;
use crate::values::{Company, Email, Name};

/// Renders the templates of one workspace.
pub(super) struct Composer<'a> {
    workspace_id: Uuid,
    urls: ActionUrls<'a>,
    renderer: Arc<Renderer>,
    pub sender: Sender,
}

/// An email whose template is not rendered yet.
pub(super) struct Draft<'a> {
    pub event: Event,
    pub event_key: String,
    pub template: String,
    /// The lead or customer who receives it.
    pub recipient: (RecordType, Uuid),
    pub name: &'a Name,
    pub first_name: Option<&'a Name>,
    pub email: &'a Email,
    pub company: Option<&'a Company>,
    /// The recipient's time zone, if the record has one.
    pub time_zone: Option<Tz>,
    /// The feedback that it requests.
    pub feedback_id: Option<Uuid>,
}

impl<'a> Composer<'a> {
    pub async fn new(
        connection: &mut PgConnection,
        workspace_id: Uuid,
        urls: ActionUrls<'a>,
        settings: &Settings,
    ) -> Result<Self> {
        let sender = settings::sender(connection, workspace_id, settings, urls.mail).await?;
        Ok(Self { workspace_id, urls, renderer: Renderer::read(settings.all_templates()).await?, sender })
    }

    /// Returns the drafts' emails in order, with `None` where a template cannot be rendered.
    pub async fn compose(&self, drafts: Vec<Draft<'_>>) -> Result<Vec<Option<NewEmail>>> {
        let ids: Vec<Uuid> = drafts.iter().map(|_| Uuid::now_v7()).collect();
        let unsubscribe = |id: &Uuid| self.urls.url(Action::Unsubscribe, self.workspace_id, *id);
        let urls: Vec<String> = ids.iter().map(unsubscribe).collect();
        let contexts = drafts.iter().zip(&urls).map(|(draft, url)| (draft.template.clone(), self.context(draft, url)));
        let contents = self.renderer.render_all(contexts.collect()).await?;
        let drafts = drafts.into_iter().zip(ids).zip(urls).zip(contents);
        let emails = drafts.map(|(((draft, id), unsubscribe), content)| {
            let Draft { event, event_key, template, recipient, name, email, time_zone, .. } = draft;
            let content = content.inspect_err(|error| {
                tracing::warn!(%error, id = %recipient.1, template, "cannot render template");
            });
            Some(NewEmail {
                id,
                event,
                event_key,
                subject: Some(recipient),
                to_name: Some(name.as_ref().to_owned()),
                to_email: email.clone(),
                content: content.ok()?,
                unsubscribe: Some(unsubscribe),
                time_zone,
            })
        });
        Ok(emails.collect())
    }

    fn context(&self, draft: &Draft<'_>, unsubscribe: &str) -> Value {
        let Draft { recipient, name, email, company, .. } = draft;
        let first_name = name.greeting(draft.first_name);
        let mut context = json!({
            recipient.0.as_str(): { "name": name, "first_name": first_name, "email": email, "company": company },
            "sender": { "name": self.sender.name },
            "unsubscribe_url": unsubscribe,
        });
        if let Some(id) = draft.feedback_id {
            context["url"] = self.urls.url(Action::Feedback, self.workspace_id, id).into();
        }
        context
    }
}
