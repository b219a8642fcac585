//! A tab: its session with Chromium, its scripts and its loads.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chromiumoxide::Command;
use chromiumoxide::cdp::browser_protocol::browser::{SetDownloadBehaviorBehavior, SetDownloadBehaviorParams};
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams, SetScriptExecutionDisabledParams,
};
use chromiumoxide::cdp::browser_protocol::page::{self, CaptureScreenshotParams, HandleJavaScriptDialogParams};
use chromiumoxide::cdp::browser_protocol::target::{
    AttachToTargetParams, CloseTargetParams, CreateBrowserContextParams, CreateTargetParams,
    DisposeBrowserContextParams, SetAutoAttachParams,
};
use chromiumoxide::cdp::browser_protocol::{audits, log, network};
use chromiumoxide::cdp::js_protocol::runtime::{
    self, CallArgument, CallFunctionOnParams, EvaluateParams, RunIfWaitingForDebuggerParams,
};
use serde_json::Value;
use tokio::time::timeout;

use super::connection::{Event, Protocol};
use super::record::Record;
use super::{Look, PATIENCE};

/// An isolated part of the browser, with cookies of its own. It is deleted when this value is dropped.
pub(super) struct Visitor {
    protocol: Protocol,
    id: String,
    downloads: PathBuf,
}

impl Visitor {
    pub async fn create(protocol: Protocol, downloads: PathBuf) -> Result<Self> {
        let created = protocol.run(None, CreateBrowserContextParams::default()).await?;
        let id = text(&created["browserContextId"])?;
        let behaviour = SetDownloadBehaviorParams::builder()
            .behavior(SetDownloadBehaviorBehavior::AllowAndName)
            .browser_context_id(id.clone())
            .download_path(downloads.to_string_lossy())
            .events_enabled(true);
        protocol.run(None, behaviour.build().map_err(anyhow::Error::msg)?).await?;
        Ok(Self { protocol, id, downloads })
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let _ = self.protocol.send(None, DisposeBrowserContextParams::new(self.id.clone()));
    }
}

/// A tab, which is closed when this value is dropped.
pub(super) struct Tab {
    pub visitor: Arc<Visitor>,
    target: String,
    session: String,
    pub record: Arc<Record>,
    pub look: Look,
}

impl Tab {
    /// Opens a tab for the pages of a site, such as `http://127.0.0.1:1`.
    pub async fn open(visitor: Arc<Visitor>, site: &str, look: Look) -> Result<Self> {
        let protocol = &visitor.protocol;
        // In a window of its own: of a hidden tab, Chromium does not compute what is accessible.
        let create = CreateTargetParams::builder().url("about:blank").new_window(true);
        let create = create.browser_context_id(visitor.id.clone());
        let created = protocol.run(None, create.build().map_err(anyhow::Error::msg)?).await?;
        let target = text(&created["targetId"])?;
        let attach = AttachToTargetParams::builder().target_id(target.clone()).flatten(true);
        let attached = protocol.run(None, attach.build().map_err(anyhow::Error::msg)?).await?;
        let session = text(&attached["sessionId"])?;
        // The main frame has the id of the target.
        let record = Arc::new(Record::new(&target, site));
        watch(protocol, &session, &record)?;
        let tab = Self { target, session, record, look, visitor: visitor.clone() };
        tab.run(page::EnableParams::default()).await?;
        tab.apply_look().await?;
        Ok(tab)
    }

    async fn apply_look(&self) -> Result<()> {
        let look = &self.look;
        let (width, height) = look.size;
        self.run(SetDeviceMetricsOverrideParams::new(width, height, look.scale, false)).await?;
        let scheme = MediaFeature::new("prefers-color-scheme", if look.dark { "dark" } else { "light" });
        // Transitions would make pictures and clicks depend on the time.
        let motion = MediaFeature::new("prefers-reduced-motion", "reduce");
        self.run(SetEmulatedMediaParams::builder().features([scheme, motion]).build()).await?;
        self.allow_scripts(look.scripts).await
    }

    pub async fn allow_scripts(&self, allowed: bool) -> Result<()> {
        self.run(SetScriptExecutionDisabledParams::new(!allowed)).await.map(drop)
    }

    pub async fn run<C: Command>(&self, command: C) -> Result<Value> {
        self.visitor.protocol.run(Some(&self.session), command).await
    }

    /// The value of an expression, or of the promise that it is.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let evaluate =
            EvaluateParams::builder().expression(expression).return_by_value(true).await_promise(true).build();
        Ok(result(self.run(evaluate.map_err(anyhow::Error::msg)?).await?)?["value"].clone())
    }

    /// The element that an expression returns, by the id of its object; none if it returns no element.
    pub async fn object(&self, expression: &str) -> Result<Option<String>> {
        let evaluate = EvaluateParams::builder().expression(expression).build().map_err(anyhow::Error::msg)?;
        Ok(result(self.run(evaluate).await?)?["objectId"].as_str().map(str::to_owned))
    }

    /// Calls a function with an element as `this`.
    pub async fn call(&self, object: &str, function: &str, arguments: &[Value]) -> Result<Value> {
        Ok(self.call_on(object, function, arguments, true).await?["value"].clone())
    }

    /// The element that a function returns, which is called with an element as `this`.
    pub async fn call_for_element(&self, object: &str, function: &str, arguments: &[Value]) -> Result<Option<String>> {
        let result = self.call_on(object, function, arguments, false).await?;
        Ok(result["objectId"].as_str().map(str::to_owned))
    }

    async fn call_on(&self, object: &str, function: &str, arguments: &[Value], by_value: bool) -> Result<Value> {
        let arguments = arguments.iter().map(|value| CallArgument::builder().value(value.clone()).build());
        let call = CallFunctionOnParams::builder()
            .function_declaration(function)
            .object_id(object.to_owned())
            .arguments(arguments)
            .return_by_value(by_value)
            .await_promise(true);
        result(self.run(call.build().map_err(anyhow::Error::msg)?).await?)
    }

    /// Loads a URL, and waits until all of it has arrived.
    pub async fn navigate(&self, url: &str) -> Result<()> {
        let before = self.record.state().ended;
        let response = self.run(page::NavigateParams::new(url)).await?;
        // An error without a body is a page of Chromium's own; its status is recorded.
        let error = response["errorText"].as_str().filter(|error| *error != "net::ERR_HTTP_RESPONSE_CODE_FAILURE");
        if let Some(error) = error {
            bail!("{url} cannot be loaded: {error}");
        }
        self.loaded(before).await
    }

    /// Loads the page before the present one in the tab's history.
    pub async fn back(&self) -> Result<()> {
        let history = self.run(page::GetNavigationHistoryParams::default()).await?;
        let index = history["currentIndex"].as_u64().and_then(|index| index.checked_sub(1)).unwrap_or_default();
        let entry = history["entries"][usize::try_from(index)?]["id"].as_i64().context("the history is empty")?;
        let before = self.record.state().ended;
        self.run(page::NavigateToHistoryEntryParams::new(entry)).await?;
        self.loaded(before).await
    }

    /// Does something that a page reacts to, and waits for the load that it causes, if it causes one.
    pub async fn act(&self, action: impl Future<Output = Result<()>>) -> Result<()> {
        let (requested, ended) = {
            let state = self.record.state();
            (state.requested, state.ended)
        };
        action.await?;
        self.settle().await?;
        if self.record.state().requested > requested { self.loaded(ended).await } else { Ok(()) }
    }

    /// Waits until the page has run what it had to, such as the task that submits a form.
    async fn settle(&self) -> Result<()> {
        const TASK: &str = "new Promise(done => setTimeout(() => setTimeout(done)))";
        // The document may be replaced meanwhile.
        let _ = self.evaluate(if self.look.scripts { TASK } else { "0" }).await;
        Ok(())
    }

    async fn loaded(&self, before: u64) -> Result<()> {
        let loaded = self.record.until(|state| (state.ended > before && state.ended >= state.begun).then_some(()));
        timeout(PATIENCE, loaded).await.context("the page does not finish to load")
    }

    /// The next download, by its name, with its content.
    pub async fn next_download(&self, before: usize) -> Result<(String, Vec<u8>)> {
        let ended = self.record.until(|state| {
            state
                .downloads
                .get(before)
                .filter(|download| download.has_ended)
                .map(|file| (file.id.clone(), file.name.clone()))
        });
        let (id, name) = timeout(PATIENCE, ended).await.context("nothing was downloaded")?;
        let content = tokio::fs::read(self.visitor.downloads.join(id)).await;
        Ok((name.clone(), content.with_context(|| format!("the download of {name} failed"))?))
    }

    /// The visible part of the page as a PNG.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        let image = self.run(CaptureScreenshotParams::default()).await?;
        BASE64_STANDARD.decode(text(&image["data"])?).context("the picture is not valid base64")
    }

    pub async fn cookies(&self) -> Result<Vec<Value>> {
        let cookies = self.run(network::GetCookiesParams::default()).await?;
        Ok(cookies["cookies"].as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.visitor.protocol.forget(&self.session);
        let _ = self.visitor.protocol.send(None, CloseTargetParams::new(self.target.clone()));
    }
}

/// Records what happens in a session, and in the frames and workers that it begins.
fn watch(protocol: &Protocol, session: &str, record: &Arc<Record>) -> Result<()> {
    let (noted, inner, own) = (record.clone(), protocol.clone(), session.to_owned());
    let note = move |event: &Event| {
        noted.note(event);
        // Both fail only when Chromium ends.
        let _ = match event.method.as_str() {
            "Target.attachedToTarget" => {
                event.params["sessionId"].as_str().map(|session| watch(&inner, session, &noted)).transpose().map(drop)
            }
            "Target.detachedFromTarget" => {
                inner.forget(event.params["sessionId"].as_str().unwrap_or_default());
                Ok(())
            }
            "Page.javascriptDialogOpening" => {
                inner.send(Some(&own), HandleJavaScriptDialogParams::new(false)).map(drop)
            }
            _ => Ok(()),
        };
    };
    protocol.listen(session, Arc::new(note));
    // Workers lack some of these domains, which is no fault.
    protocol.send(Some(session), runtime::EnableParams::default())?;
    protocol.send(Some(session), log::EnableParams::default())?;
    protocol.send(Some(session), audits::EnableParams::default())?;
    protocol.send(Some(session), network::EnableParams::default())?;
    let attach = SetAutoAttachParams::builder().auto_attach(true).wait_for_debugger_on_start(true).flatten(true);
    protocol.send(Some(session), attach.build().map_err(anyhow::Error::msg)?)?;
    protocol.send(Some(session), RunIfWaitingForDebuggerParams::default()).map(drop)
}

/// The result of a script.
fn result(response: Value) -> Result<Value> {
    let exception = &response["exceptionDetails"];
    if !exception.is_null() {
        bail!("{}", exception["exception"]["description"].as_str().unwrap_or("a script failed"));
    }
    Ok(response["result"].clone())
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("Chromium's response lacks a field")
}
