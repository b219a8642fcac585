//! Signing in, with an API key or a link that works once.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use shared::accounts::Key;
use shared::accounts::api_keys::authentication::{self, Opened};
use shared::accounts::sessions::{self, From, Token};
use shared::platform::db::Transaction;

use super::forms::Fields;
use super::links::{link, own_path, query_of};
use super::refusal::{Refusal, Result};
use super::session::{COOKIE_NAME, check_origin, cookie, token_of};
use super::{CONSOLE, layout};
use crate::AppState;
use crate::extract;
use crate::http::observe::RequestId;
use crate::http::peer::Client;
use crate::respond::Problem;

/// The parameter with the page to go to after signing in.
const NEXT: &str = "next";
/// The parameter with the token of a link that signs in.
const LINK: &str = "link";
/// The field with the API key.
const KEY: &str = "key";
const MAX_FORM: usize = 16 * 1024;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/sign-in", get(show).post(sign_in))
}

/// Sends a visitor who is not signed in to the page that asks for a key. Only the address of a page that can be
/// visited is remembered.
pub(super) fn ask(request: &Request) -> Response {
    let next = match *request.method() {
        axum::http::Method::GET => request.uri().path_and_query().map_or("", |path| path.as_str()),
        _ => "",
    };
    // Inside the console's routes, the path lacks their prefix.
    let next = format!("{CONSOLE}{next}");
    let next = if next.trim_end_matches('/') == CONSOLE { "" } else { next.as_str() };
    Redirect::to(&link(&format!("{CONSOLE}/sign-in"), [(NEXT, next)])).into_response()
}

async fn show(request: Request) -> Result<Response> {
    let query = query_of(request.uri());
    let of = |name: &str| query.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value.as_str());
    let content = match of(LINK) {
        "" => with_key(of(NEXT), None),
        link => with_link(link),
    };
    Ok(layout::bare(StatusCode::OK, "Sign in", &content))
}

fn with_key(next: &str, wrong: Option<&str>) -> Markup {
    html! {
        h1 { "Sign in" }
        p.quiet { "With an API key. What the key may do decides what you see here." }
        form method="post" action=(format!("{CONSOLE}/sign-in")) {
            @if !next.is_empty() { input type="hidden" name=(NEXT) value=(own_path(next)); }
            div.field {
                label for="key" { "API key" }
                input #key type="password" name=(KEY) required autocomplete="current-password" autofocus
                    spellcheck="false" aria-invalid=[wrong.map(|_| "true")] aria-describedby=[wrong.map(|_| "key-wrong")];
                @if let Some(wrong) = wrong { p.wrong #key-wrong role="alert" { (wrong) } }
            }
            button.primary type="submit" { "Sign in" }
        }
        p.quiet { "A key is made with " code { "crm-api keys create" } ", or by whoever manages keys in the settings." }
    }
}

fn with_link(token: &str) -> Markup {
    html! {
        h1 { "Sign in" }
        p { "This link signs you in once." }
        form method="post" action=(format!("{CONSOLE}/sign-in")) {
            input type="hidden" name=(LINK) value=(token);
            button.primary type="submit" autofocus { "Sign in" }
        }
    }
}

/// Begins a session: always a new one, so that nobody can plant the token of theirs.
async fn sign_in(
    State(state): State<AppState>,
    client: Option<Extension<Client>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response> {
    check_origin(&headers)?;
    let client = client.map(|Extension(client)| client);
    let mut fields = Fields::new(extract::form(request, MAX_FORM).await?);
    let next = fields.take(NEXT).unwrap_or_default();
    let mut transaction = Transaction::begin(&state.pool).await?;
    let key = match fields.take(LINK) {
        Some(link) => redeem(&mut transaction, &link).await?,
        None => match Key::parse(fields.take(KEY).unwrap_or_default().trim()) {
            Some(key) => authentication::open(&mut transaction, &key).await?.ok_or("This key is not valid."),
            None => Err("This is not an API key."),
        },
    };
    let key = match key {
        Ok(key) if key.is_suspended => return Err(Problem::suspended().into()),
        Ok(key) => key,
        Err(wrong) => {
            let rejected = state.limits.reject(client, Problem::unauthorized());
            if rejected.status() != StatusCode::UNAUTHORIZED {
                return Err(rejected.into());
            }
            return Ok(layout::bare(StatusCode::UNAUTHORIZED, "Sign in", &with_key(&next, Some(wrong))));
        }
    };
    end_former(&mut transaction, &state, &headers).await?;
    let user_agent = headers.get(USER_AGENT).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let from = From { address: client.map(|Client(address)| address), user_agent };
    let token = sessions::begin(&mut transaction, &key, from, &request_id).await?;
    transaction.commit().await?;
    let cookie = cookie(&state, COOKIE_NAME, &token.reveal(), None);
    let cookie = cookie.ok_or_else(|| Problem::internal("a token is not a cookie"))?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to(own_path(&next))).into_response())
}

async fn redeem(transaction: &mut Transaction, link: &str) -> Result<Result<Opened, &'static str>> {
    let found = match Token::parse(link) {
        Some(link) => sessions::redeem(transaction, &link).await?,
        None => None,
    };
    Ok(found.ok_or("This link was used before or has expired. Sign in with an API key, or make another link."))
}

/// Ends the session that the browser had before.
async fn end_former(transaction: &mut Transaction, state: &AppState, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token_of(state, headers) else { return Ok(()) };
    if let Some(former) = sessions::open(transaction, &token).await? {
        sessions::forget(transaction, former.key.workspace_id, former.session_id).await?;
    }
    Ok(())
}
