//! What a tab does: its loads, its downloads, and everything that a clean page does not do.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::connection::Event;

/// The record of a tab, which grows as events arrive.
#[derive(Debug)]
pub(super) struct Record {
    state: Mutex<State>,
    /// Notified after each event that [`Record::until`] may wait for.
    changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The main frame.
    pub frame: String,
    /// How many loads were requested, have begun, and have ended.
    pub requested: u64,
    pub begun: u64,
    pub ended: u64,
    /// The status of the last document; none if no server answered.
    pub status: Option<u16>,
    /// The bytes received for the last document, with all that it loads.
    pub weight: u64,
    /// The downloads, in the order of their beginning.
    pub downloads: Vec<Download>,
    /// What the page did that it should not.
    pub problems: Vec<String>,
    /// The scheme, host and port of the server.
    site: String,
    /// The ids of requests for documents, whose status is the business of the story.
    documents: HashSet<String>,
}

impl Record {
    pub fn new(frame: &str, site: &str) -> Self {
        let state = State { frame: frame.to_owned(), site: site.to_owned(), ..State::default() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as described.
    pub async fn until<T>(&self, ready: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            let found = ready(&mut self.state());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }

    /// Notes an event of the tab, or of a frame or worker in it.
    pub fn note(&self, event: &Event) {
        self.state().note(&event.method, &event.params);
        self.changed.notify_waiters();
    }
}

impl State {
    fn note(&mut self, method: &str, params: &Value) {
        let is_main = params["frameId"] == *self.frame;
        match method {
            "Page.frameScheduledNavigation" if is_main => self.requested += 1,
            "Page.frameRequestedNavigation" if is_main && params["disposition"] == "currentTab" => self.requested += 1,
            "Page.frameStartedLoading" if is_main => self.begun += 1,
            "Page.frameStoppedLoading" if is_main => self.ended += 1,
            // A link to a part of the page loads nothing.
            "Page.navigatedWithinDocument" if is_main => self.ended += 1,
            "Network.requestWillBeSent" => self.note_request(params, is_main),
            "Network.responseReceived" if is_main && params["type"] == "Document" => {
                self.status = params["response"]["status"].as_u64().and_then(|status| status.try_into().ok());
            }
            "Network.loadingFinished" => self.weight += params["encodedDataLength"].as_f64().unwrap_or(0.0) as u64,
            "Page.downloadWillBegin" => {
                let (id, name) = (text(&params["guid"]), text(&params["suggestedFilename"]));
                self.downloads.push(Download { id, name, has_ended: false });
            }
            "Page.downloadProgress" if params["state"] != "inProgress" => {
                let ended = self.downloads.iter_mut().filter(|download| params["guid"] == *download.id);
                ended.for_each(|download| download.has_ended = true);
            }
            "Page.javascriptDialogOpening" => {
                self.problems.push(format!("a dialog opened: {}", text(&params["message"])));
            }
            "Runtime.exceptionThrown" => {
                let details = &params["exceptionDetails"];
                let what = details["exception"]["description"].as_str().or(details["text"].as_str());
                self.problems.push(format!("uncaught exception: {}", what.unwrap_or_default()));
            }
            "Runtime.consoleAPICalled" if params["type"] == "error" || params["type"] == "assert" => {
                let said = params["args"].as_array().into_iter().flatten().map(spoken);
                self.problems.push(format!("console: {}", said.collect::<Vec<_>>().join(" ")));
            }
            "Log.entryAdded" => self.note_log(&params["entry"]),
            "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue" => {
                let details = &params["issue"]["details"]["contentSecurityPolicyIssueDetails"];
                self.problems.push(format!("CSP violation: {details}"));
            }
            _ => {}
        }
    }

    fn note_request(&mut self, params: &Value, is_main: bool) {
        let url = text(&params["request"]["url"]);
        if is_main && params["type"] == "Document" {
            self.documents.insert(text(&params["requestId"]));
            // A redirect belongs to the same load.
            if params["redirectResponse"].is_null() {
                (self.status, self.weight) = (None, 0);
            }
        }
        let is_local = ["about:", "blob:", "data:"].iter().any(|scheme| url.starts_with(scheme));
        if !is_local && !is_of_site(&url, &self.site) {
            self.problems.push(format!("request to another host: {url}"));
        }
    }

    fn note_log(&mut self, entry: &Value) {
        let is_document = entry["networkRequestId"].as_str().is_some_and(|id| self.documents.contains(id));
        if entry["level"] == "error" && !is_document {
            self.problems.push(format!(
                "error in {}: {} {}",
                text(&entry["url"]),
                text(&entry["source"]),
                text(&entry["text"])
            ));
        }
    }
}

/// A file that the tab downloads.
#[derive(Debug)]
pub(super) struct Download {
    /// The name of the file in the directory of downloads.
    pub id: String,
    /// The name that the server suggests.
    pub name: String,
    /// Whether it has succeeded or failed.
    pub has_ended: bool,
}

/// Whether a URL is of a site, such as `http://127.0.0.1:1`.
fn is_of_site(url: &str, site: &str) -> bool {
    url.strip_prefix(site).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// How the console shows a part of a message.
fn spoken(part: &Value) -> String {
    let text = part["value"].as_str().or(part["description"].as_str());
    text.map_or_else(|| part["value"].to_string(), str::to_owned)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_scheme_a_host_and_a_port() {
        let site = "http://127.0.0.1:4711";
        for url in [site, "http://127.0.0.1:4711/a", "http://127.0.0.1:4711?b"] {
            assert!(is_of_site(url, site), "{url}");
        }
        for url in ["http://127.0.0.1:47112/", "https://127.0.0.1:4711/", "http://127.0.0.1:4711.example.com/"] {
            assert!(!is_of_site(url, site), "{url}");
        }
    }
}
