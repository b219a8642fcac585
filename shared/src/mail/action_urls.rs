//! The links in emails: the page that each opens, and the purpose of its token.

use uuid::Uuid;

use crate::platform::config;
use crate::platform::signed_links::Signer;

/// An action that a recipient takes through a link in an email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answer a request for feedback. The token contains the request's id.
    Feedback,
    /// Unsubscribe from further emails. The token contains the email's id.
    Unsubscribe,
}

impl Action {
    /// The first part of the page's path, which is also the purpose of the token.
    const fn name(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Unsubscribe => "unsubscribe",
        }
    }

    /// The placeholder link in previews, which opens no page.
    pub fn preview_url(self, public_url: &str) -> String {
        format!("{public_url}/{}/preview", self.name())
    }

    /// The workspace and the id in a link's token; `None` if the token is not for this action.
    pub fn verify(self, signer: &Signer, token: &str) -> Option<(Uuid, Uuid)> {
        signer.verify(self.name(), token)
    }
}

/// Builds the links in emails.
#[derive(Debug, Clone, Copy)]
pub struct ActionUrls<'a> {
    /// The public base URL of the API.
    pub public_url: &'a str,
    /// The `[mail]` settings.
    pub mail: &'a config::Mail,
    /// Signs the tokens.
    pub signer: &'a Signer,
}

impl<'a> ActionUrls<'a> {
    /// The links of this program.
    pub fn new(settings: &'a config::Settings, signer: &'a Signer) -> Self {
        Self { public_url: &settings.public_url, mail: &settings.mail, signer }
    }

    /// The link for an action on the record or email with this id.
    pub fn url(&self, action: Action, workspace_id: Uuid, id: Uuid) -> String {
        let name = action.name();
        format!("{}/{name}/{}", self.public_url, self.signer.sign(name, workspace_id, id))
    }
}
