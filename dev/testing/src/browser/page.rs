//! A page as a story uses it. Each step waits until it is possible, and panics with what the page shows.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use serde_json::Value;
use tokio::time::{Duration, sleep};

use super::element::Kind;
use super::tab::Tab;
use super::{Look, PATIENCE, axe};

/// The time between two looks at a page.
const LOOK: Duration = Duration::from_millis(25);
/// How much of a page's text a failure shows, in characters.
const SHOWN: usize = 3_000;

/// A tab of a visitor, or a part of its page. Clones are the same tab.
#[derive(Clone)]
pub struct Page {
    pub(super) tab: Arc<Tab>,
    site: String,
    /// An expression that returns the part of the page in which elements are found.
    pub(super) root: String,
}

/// Where the visitor is.
impl Page {
    pub(super) fn of(tab: Tab, site: &str) -> Self {
        Self { tab: Arc::new(tab), site: site.to_owned(), root: "document.documentElement".to_owned() }
    }

    /// Opens a path of the site, such as `/console/leads?q=ada`, or a URL of it, which must be there.
    ///
    /// # Panics
    /// If it is not.
    pub async fn open(&self, path: &str) {
        self.open_expecting(path, 200).await;
    }

    /// Opens a path that has another status than 200.
    ///
    /// # Panics
    /// If it has not.
    pub async fn open_expecting(&self, path: &str, status: u16) {
        let url = if path.starts_with('/') { format!("{}{path}", self.site) } else { path.to_owned() };
        let opened = self.tab.navigate(&url).await;
        self.expect(&format!("open {path}"), opened).await;
        let found = self.status();
        self.expect(&format!("open {path}"), if found == status { Ok(()) } else { Err(anyhow!("status {found}")) })
            .await;
    }

    /// The status of the document.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.tab.record.state().status.unwrap_or_default()
    }

    /// The bytes that the document and everything it loads took on the way.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.tab.record.state().weight
    }

    /// The path of the page, with its query.
    pub async fn path(&self) -> String {
        self.evaluate("location.pathname + location.search").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the path of the page begins so.
    pub async fn at(&self, path: &str) {
        let wanted = Value::from(path);
        let is_at =
            format!("(location.pathname + location.search).startsWith({wanted}) && document.readyState != 'loading'");
        self.wait(&format!("be at {path}"), &is_at).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        let url = self.evaluate("location.href").await;
        self.open(url.as_str().unwrap_or_default()).await;
    }

    /// Goes back in the tab's history.
    pub async fn back(&self) {
        let gone = self.tab.back().await;
        self.expect("go back", gone).await;
    }

    /// Another tab of the same visitor.
    pub async fn another_tab(&self) -> Self {
        let tab = Tab::open(self.tab.visitor.clone(), &self.site, self.tab.look.clone()).await;
        Self::of(self.expect("open another tab", tab).await, &self.site)
    }

    /// The same visitor in another tab, with another look.
    pub async fn looking(&self, look: Look) -> Self {
        let tab = Tab::open(self.tab.visitor.clone(), &self.site, look).await;
        Self::of(self.expect("open another tab", tab).await, &self.site)
    }

    /// The part of the page that a CSS selector finds.
    #[must_use]
    pub fn within(&self, css: &str) -> Self {
        Self { root: format!("({}).querySelector({})", self.root, Value::from(css)), ..self.clone() }
    }

    /// The row of a table, or the item of a list, that contains a text.
    #[must_use]
    pub fn row(&self, text: &str) -> Self {
        let find = "(rows, text) => rows.filter(row => row.innerText.includes(text)).sort((a, b) => a.innerText.length - b.innerText.length)[0]";
        let rows = format!("[...({}).querySelectorAll('tr, li, [role=row]')]", self.root);
        Self { root: format!("({find})({rows}, {})", Value::from(text)), ..self.clone() }
    }
}

/// What the visitor sees.
impl Page {
    /// Waits until the page shows a text, whatever its white space.
    pub async fn see(&self, text: &str) {
        self.wait(&format!("see {text:?}"), &format!("{}.includes({})", self.shown(), normal(text))).await;
    }

    /// Waits until the page no longer shows a text.
    pub async fn not_see(&self, text: &str) {
        let hidden = format!("document.readyState != 'loading' && !{}.includes({})", self.shown(), normal(text));
        self.wait(&format!("no longer see {text:?}"), &hidden).await;
    }

    /// The text of the first element that a CSS selector finds, with single spaces; waits for the element.
    pub async fn text(&self, css: &str) -> String {
        let part = self.within(css);
        self.wait(&format!("find {css}"), &format!("!!{}", part.root)).await;
        self.evaluate(&part.shown()).await.as_str().unwrap_or_default().to_owned()
    }

    /// The texts of all elements that a CSS selector finds at present, with single spaces.
    pub async fn texts(&self, css: &str) -> Vec<String> {
        let each = r"element => element.innerText.replace(/\s+/g, ' ').trim()";
        let texts = format!("[...({}).querySelectorAll({})].map({each})", self.root, Value::from(css));
        let texts = self.evaluate(&texts).await;
        texts.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The value of a field, by its label or a CSS selector.
    pub async fn value(&self, label: &str) -> String {
        const VALUE: &str = "function() { return this.value }";
        let value = self.patiently(|| async {
            let field = self.tab.find(&self.root, Kind::Field, label).await?;
            self.tab.call(&field, VALUE, &[]).await
        });
        let value = value.await;
        self.expect(&format!("read {label:?}"), value).await.as_str().unwrap_or_default().to_owned()
    }

    /// The value of an expression in the page, or of the promise that it is.
    pub async fn evaluate(&self, expression: &str) -> Value {
        let value = self.tab.evaluate(expression).await;
        self.expect("evaluate a script", value).await
    }

    /// The cookies of the page, as the protocol describes them.
    pub async fn cookies(&self) -> Vec<Value> {
        let cookies = self.tab.cookies().await;
        self.expect("read the cookies", cookies).await
    }

    /// The visible part of the page as a PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let picture = self.tab.screenshot().await;
        self.expect("take a picture", picture).await
    }

    /// Waits until an expression is true.
    pub async fn wait(&self, doing: &str, condition: &str) {
        let waited = self.patiently(|| async {
            if self.tab.evaluate(condition).await? == true { Ok(()) } else { Err(anyhow!("in vain")) }
        });
        let waited = waited.await;
        self.expect(doing, waited).await;
    }

    /// An expression that returns the text of this part of the page, with single spaces.
    fn shown(&self) -> String {
        format!(r"(({}).innerText ?? '').replace(/\s+/g, ' ').trim()", self.root)
    }
}

/// What every page must be.
impl Page {
    /// Checks that no script failed, nothing was requested from another host, and the page's policy was not violated,
    /// since the tab was opened.
    ///
    /// # Panics
    /// If something was.
    pub async fn is_clean(&self) {
        let problems = self.take_problems().await;
        assert!(problems.is_empty(), "{} is not clean:\n{}", self.path().await, problems.join("\n"));
    }

    /// Returns what [`Self::is_clean`] would fail with, and forgets it.
    pub async fn take_problems(&self) -> Vec<String> {
        // Events arrive before the response that follows them.
        self.evaluate("0").await;
        std::mem::take(&mut self.tab.record.state().problems)
    }

    /// Checks the page with axe-core: WCAG 2 at the levels A and AA, and best practices.
    ///
    /// # Panics
    /// If it finds a violation.
    pub async fn accessible(&self) {
        let found = axe::violations(&self.tab).await;
        let found = self.expect("check the accessibility", found).await.unwrap_or_default();
        assert!(found.is_empty(), "{} is not accessible:\n{}", self.path().await, found.join("\n"));
    }

    /// Checks that the page fits into the window's width.
    ///
    /// # Panics
    /// If it must be scrolled sideways.
    pub async fn fits(&self) {
        let wide = self.evaluate(WIDE).await;
        assert!(wide.as_array().is_some_and(Vec::is_empty), "{} is too wide: {wide}", self.path().await);
    }
}

/// The elements that reach beyond the window, if the page is wider.
const WIDE: &str = "(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    const beyond = element => element.getBoundingClientRect().right > root.clientWidth + 1;
    return [root.scrollWidth, ...[...document.body.querySelectorAll('*')].filter(beyond).slice(0, 5).map(element => element.outerHTML.slice(0, 100))];
})()";

impl Page {
    /// Repeats an attempt until it succeeds; the last error counts.
    pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(&self, attempt: impl Fn() -> F) -> Result<T> {
        let started = Instant::now();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    pub(super) async fn expect<T>(&self, doing: &str, done: Result<T>) -> T {
        match done {
            Ok(done) => done,
            Err(error) => {
                let shows = self.tab.evaluate("`${document.URL} shows:\\n${document.body?.innerText}`").await;
                let shows = shows.unwrap_or_default();
                let shows: String = shows.as_str().unwrap_or_default().chars().take(SHOWN).collect();
                panic!("cannot {doing}: {error:#}\n{shows}")
            }
        }
    }
}

/// A text with single spaces, as a literal of a script.
fn normal(text: &str) -> Value {
    text.split_whitespace().collect::<Vec<_>>().join(" ").into()
}
