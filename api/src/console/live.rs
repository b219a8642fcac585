//! Parts of pages that live: the server renders a part again, and sends it when it has changed.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use maud::{Markup, html};
use tokio::time::{Instant, sleep};

use super::refusal::Result;
use crate::AppState;

/// Who looks at a page.
pub(crate) trait Visitor: Clone + Send + Sync + 'static {
    /// The state of this process.
    fn state(&self) -> &AppState;

    /// Whether the session has not ended.
    fn is_signed_in(&self) -> impl Future<Output = Result<bool>> + Send;
}

/// How long one stream lasts; the browser then asks again.
const LASTS: Duration = Duration::from_secs(10 * 60);

/// A part of a page that is replaced by what `path` sends. Without scripts it stays as it is.
pub(crate) fn region(path: &str, content: &Markup) -> Markup {
    html! { div data-live=(path) aria-live="polite" { (content) } }
}

/// Sends a part of a page whenever it has changed, until the session ends.
pub(crate) fn stream<V: Visitor, R>(visit: V, every: Duration, render: impl Fn(V) -> R + Send + 'static) -> Response
where
    R: Future<Output = Result<Markup>> + Send,
{
    let (stopping, until) = (visit.state().stopping.clone().cancelled_owned(), Instant::now() + LASTS);
    let parts = stream::unfold((visit, String::new(), render), move |(visit, mut last, render)| async move {
        loop {
            // The page has just shown this part.
            sleep(every).await;
            if Instant::now() >= until || !visit.is_signed_in().await.ok()? {
                return None;
            }
            let part = render(visit.clone()).await.ok()?.into_string();
            if part != last {
                last.clone_from(&part);
                return Some((Ok::<_, Infallible>(Event::default().data(part)), (visit, last, render)));
            }
        }
    });
    Sse::new(parts.take_until(stopping)).keep_alive(KeepAlive::default()).into_response()
}
