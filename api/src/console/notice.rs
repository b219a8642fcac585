//! What the last form did, shown once on the page that follows it.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::links::own_path;
use super::session::{cookie, cookie_name, cookie_of};
use crate::AppState;

const NAME: &str = "crm_notice";
/// A notice that no page has shown is forgotten.
const SECONDS: i64 = 60;
const MAX_TEXT: usize = 300;

/// What the last form did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// A sentence.
    pub text: String,
    /// The path of the form that undoes it.
    pub undo: Option<String>,
}

impl Notice {
    /// A notice that something was done.
    pub fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), undo: None }
    }

    /// With a button that sends an empty form to this path.
    pub fn undone_by(self, path: impl Into<String>) -> Self {
        Self { undo: Some(path.into()), ..self }
    }

    /// The cookie that keeps it until the next page.
    pub(super) fn cookie(&self, state: &AppState) -> Option<HeaderValue> {
        cookie(state, NAME, &self.encode()?, Some(SECONDS))
    }

    /// The notice as the value of a cookie.
    pub(super) fn encode(&self) -> Option<String> {
        let text = self.text.chars().take(MAX_TEXT).collect();
        let json = serde_json::to_vec(&Self { text, undo: self.undo.clone() }).ok()?;
        Some(URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads the value of a cookie.
    pub(super) fn decode(value: &str) -> Option<Self> {
        let notice: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
        Some(Self { undo: notice.undo.filter(|path| own_path(path) == path), ..notice })
    }

    /// The notice that a browser sends.
    pub(super) fn take(state: &AppState, headers: &HeaderMap) -> Option<Self> {
        Self::decode(cookie_of(headers, &cookie_name(state, NAME))?)
    }

    /// The cookie that forgets it.
    pub(super) fn clear(state: &AppState) -> Option<HeaderValue> {
        cookie(state, NAME, "", Some(0))
    }
}
