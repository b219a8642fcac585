//! The links in emails: which page they lead to, and what their tokens are good for.

use uuid::Uuid;

use crate::platform::config;
use crate::platform::signed_links::Signer;

/// What a person can do by a link in an email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answer a request for feedback, whose id the token carries.
    Feedback,
    /// Receive no further emails; the token carries the id of the email.
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

    /// A link as previews show it: it leads nowhere.
    pub fn preview_url(self, public_url: &str) -> String {
        format!("{public_url}/{}/preview", self.name())
    }

    /// The workspace and id that a link's token carries; `None` if it was not made for this action.
    pub fn verify(self, signer: &Signer, token: &str) -> Option<(Uuid, Uuid)> {
        signer.verify(self.name(), token)
    }
}

/// Makes the links of emails.
#[derive(Debug, Clone, Copy)]
pub struct ActionUrls<'a> {
    /// Where people reach the API; links start with it.
    pub public_url: &'a str,
    /// The program's settings of emails.
    pub mail: &'a config::Mail,
    /// Signs the tokens.
    pub signer: &'a Signer,
}

impl<'a> ActionUrls<'a> {
    /// The links of this program.
    pub fn new(settings: &'a config::Settings, signer: &'a Signer) -> Self {
        Self { public_url: &settings.public_url, mail: &settings.mail, signer }
    }

    /// The link to an action on the record or email of this id.
    pub fn url(&self, action: Action, workspace_id: Uuid, id: Uuid) -> String {
        let name = action.name();
        format!("{}/{name}/{}", self.public_url, self.signer.sign(name, workspace_id, id))
    }
}
