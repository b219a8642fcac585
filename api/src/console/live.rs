//! Parts of pages that live: the server renders a part again, and sends it when it has changed.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use maud::{Markup, html};
use shared::accounts::sessions;
use tokio::time::{Instant, sleep};

use super::refusal::{Refusal, Result};
use super::session::Visit;

/// How long one stream lasts; the browser then asks again.
const LASTS: Duration = Duration::from_secs(10 * 60);

/// A part of a page that is replaced by what `path` sends. Without scripts it stays as it is.
pub(crate) fn region(path: &str, content: &Markup) -> Markup {
    html! { div data-live=(path) aria-live="polite" { (content) } }
}

/// Sends a part of a page whenever it has changed, until the session ends.
pub(crate) fn stream<R>(visit: Visit, every: Duration, render: impl Fn(Visit) -> R + Send + 'static) -> Response
where
    R: Future<Output = Result<Markup>> + Send,
{
    let (stopping, until) = (visit.state.stopping.clone().cancelled_owned(), Instant::now() + LASTS);
    let parts = stream::unfold((visit, String::new(), render), move |(visit, mut last, render)| async move {
        loop {
            // The page has just shown this part.
            sleep(every).await;
            if Instant::now() >= until || !is_signed_in(&visit).await.ok()? {
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

async fn is_signed_in(visit: &Visit) -> Result<bool, Refusal> {
    let Some(session_id) = visit.caller.session_id else { return Ok(false) };
    let connection = &mut *visit.state.connection().await?;
    Ok(sessions::lasts(connection, visit.caller.workspace_id, session_id).await?)
}
