//! A real Chromium for tests: pages that are used as people use them.
//!
//! One Chromium serves all tests of a process, and each visitor has an isolated part of it. Everything waits for
//! a condition, and fails with what the page shows.
//!
//! ```no_run
//! # async fn test(url: &str) {
//! use testing::browser::{Browser, Look};
//!
//! let Some(browser) = Browser::shared().await else { return };
//! let page = browser.visit(url, Look::default()).await;
//! page.open("/console").await;
//! page.fill("API key", "crm_…").await;
//! page.click("Sign in").await;
//! page.see("Overview").await;
//! page.accessible().await;
//! page.is_clean().await;
//! # }
//! ```

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

mod actions;
mod axe;
mod chromium;
mod connection;
mod element;
mod keyboard;
mod page;
mod record;
mod tab;

pub use page::Page;

use crate::supervise::Supervised;
use connection::Protocol;
use tab::{Tab, Visitor};

/// The variable by which a missing browser fails the tests, and does not skip them.
pub const REQUIRED: &str = "BROWSER_REQUIRED";
/// How long a page may take for what a test waits for. Generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tests have a runtime each, and the browser outlives them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a thread for the browser can be started")
});
static SHARED: OnceCell<Browser> = OnceCell::const_new();

/// A running Chromium. It ends with this process, even if that is killed.
pub struct Browser {
    protocol: Protocol,
    downloads: PathBuf,
    _process: Supervised,
}

impl Browser {
    /// The path of Chromium: the one in `CHROMIUM`, or the first one in the usual places.
    #[must_use]
    pub fn find() -> Option<PathBuf> {
        chromium::find()
    }

    /// The browser of this process. Without Chromium, the test is [skipped](crate::skipped).
    ///
    /// # Panics
    /// If Chromium does not start, or is missing although it is [`REQUIRED`].
    pub async fn shared() -> Option<&'static Self> {
        let Some(program) = Self::find() else {
            let variable = chromium::VARIABLE;
            assert!(
                std::env::var_os(REQUIRED).is_none(),
                "Chromium is required: install it, or set {variable} to its path"
            );
            crate::skipped(&format!("stories in a browser need Chromium: install it, or set {variable} to its path"));
            return None;
        };
        let start = || async {
            let started = RUNTIME.spawn(Self::start(program)).await.expect("the browser's thread runs");
            started.unwrap_or_else(|error| panic!("{error:#}"))
        };
        Some(SHARED.get_or_init(start).await)
    }

    /// Starts a Chromium of its own. The present runtime must outlive it.
    ///
    /// # Errors
    /// If it does not start, with what it printed.
    pub async fn start(program: PathBuf) -> Result<Self> {
        let chromium = chromium::start(program).await?;
        let protocol = Protocol::connect(&chromium.address).await?;
        Ok(Self { protocol, downloads: chromium.profile.join("downloads"), _process: chromium.process })
    }

    /// A visitor of a site, such as `http://127.0.0.1:1`, with no cookies.
    ///
    /// # Panics
    /// If Chromium fails.
    pub async fn visit(&self, site: &str, look: Look) -> Page {
        self.try_visit(site, look).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn try_visit(&self, site: &str, look: Look) -> Result<Page> {
        let site = site.trim_end_matches('/');
        let visitor = Visitor::create(self.protocol.clone(), self.downloads.clone()).await?;
        let tab = Tab::open(Arc::new(visitor), site, look).await.context("cannot open a tab")?;
        Ok(Page::of(tab, site))
    }
}

/// How a visitor looks at pages. The default is light, 1280 by 800 pixels, with scripts and a mouse.
#[derive(Debug, Clone)]
pub struct Look {
    scripts: bool,
    dark: bool,
    keyboard: bool,
    size: (i64, i64),
    scale: f64,
}

impl Default for Look {
    fn default() -> Self {
        Self { scripts: true, dark: false, keyboard: false, size: (1280, 800), scale: 1.0 }
    }
}

impl Look {
    /// Without the pages' scripts.
    #[must_use]
    pub fn without_scripts(self) -> Self {
        Self { scripts: false, ..self }
    }

    /// With a preference for dark colors.
    #[must_use]
    pub fn dark(self) -> Self {
        Self { dark: true, ..self }
    }

    /// By keyboard alone: what a story clicks, fills or chooses is reached by Tab, and keys act on it.
    #[must_use]
    pub fn by_keyboard(self) -> Self {
        Self { keyboard: true, ..self }
    }

    /// In a window of this size in pixels.
    #[must_use]
    pub fn sized(self, width: u16, height: u16) -> Self {
        Self { size: (width.into(), height.into()), ..self }
    }

    /// On a small phone.
    #[must_use]
    pub fn narrow(self) -> Self {
        self.sized(320, 640)
    }

    /// On a usual phone.
    #[must_use]
    pub fn phone(self) -> Self {
        self.sized(390, 844)
    }

    /// With this many dots for each pixel.
    #[must_use]
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }
}
