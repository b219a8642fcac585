//! Who is signed in, and the defence against requests that other sites make a browser send.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{COOKIE, HOST, HeaderName, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono_tz::Tz;
use serde::Deserialize;
use shared::accounts::scopes::{Scope, Scopes};
use shared::accounts::sessions::{self, SignedIn, Token};
use shared::platform::db::{self, Transaction};
use shared::values::Field;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::crm::Crm;
use super::forms::Fields;
use super::links::query_of;
use super::notice::Notice;
use super::refusal::{Refusal, Result};
use super::{CONSOLE, layout, sign_in};
use crate::AppState;
use crate::extract;
use crate::http::auth::Caller;
use crate::http::observe::RequestId;
use crate::respond::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The field of a form, or the parameter of its URL, that has the session's token.
pub(crate) const TOKEN: &str = "token";
/// What the token of forms is derived for.
const FORMS: &str = "forms";

/// The name of a cookie. With HTTPS, its prefix keeps other hosts of the domain from setting it.
pub(super) fn cookie_name(state: &AppState, name: &str) -> String {
    if state.is_https() { format!("__Host-{name}") } else { name.to_owned() }
}

/// A `Set-Cookie` that only this site gets back. Without a duration, the browser keeps it until it is closed.
pub(super) fn cookie(state: &AppState, name: &str, value: &str, seconds: Option<i64>) -> Option<HeaderValue> {
    let name = cookie_name(state, name);
    let secure = if state.is_https() { "; Secure" } else { "" };
    let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    HeaderValue::try_from(format!("{name}={value}; Path=/{secure}; HttpOnly; SameSite=Strict{age}")).ok()
}

/// The value of a cookie.
pub(super) fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|header| header.to_str().ok());
    let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// The name of the cookie of a session.
pub(super) const COOKIE_NAME: &str = "crm_session";

/// The session's token that a browser sends.
pub(super) fn token_of(state: &AppState, headers: &HeaderMap) -> Option<Token> {
    Token::parse(cookie_of(headers, &cookie_name(state, COOKIE_NAME))?)
}

/// Checks that a form was not sent by a page of another site.
///
/// # Errors
/// 403.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<()> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_foreign = match (text(SEC_FETCH_SITE), text(ORIGIN)) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        // Older browsers. The scheme is left out: behind a proxy it is not known.
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) != text(HOST),
        (None, None) => false,
    };
    match is_foreign {
        true => Err(Refusal::of(StatusCode::FORBIDDEN, "This form was sent by a page of another site.")),
        false => Ok(()),
    }
}

/// Runs a page for whoever is signed in, and sends others to the page that signs in.
pub(super) async fn require(
    State((state, crm)): State<(AppState, Crm)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let Some(token) = token_of(&state, request.headers()) else { return Ok(sign_in::ask(&request)) };
    let signed_in = sessions::open(&mut *state.connection().await?, &token).await?;
    let Some(SignedIn { session_id, key }) = signed_in else { return Ok(sign_in::ask(&request)) };
    if key.is_suspended {
        return Err(Problem::suspended().into());
    }
    if !is_read(request.method()) {
        check_origin(request.headers())?;
    }
    let RequestId(request_id) = request.extensions().get().cloned().unwrap_or_default();
    let (workspace_id, scopes) = (key.workspace_id, key.scopes);
    let caller = Caller { workspace_id, key_id: key.key_id, scopes, session_id: Some(session_id), request_id };
    let notice = Notice::take(&state, request.headers());
    let crm = crm.of(caller.clone());
    let about: Me = crm.get("/me").await?;
    let visit = Visit {
        zone: about.workspace.time_zone.parse().unwrap_or_default(),
        workspace: about.workspace.name,
        key: about.key.name,
        path: format!("{CONSOLE}{}", request.uri().path().trim_end_matches('/')),
        query: query_of(request.uri()),
        token: token.derive(FORMS),
        notice,
        caller,
        crm,
        state: state.clone(),
    };
    let has_notice = visit.notice.is_some();
    request.extensions_mut().insert(visit.clone());
    let answer = db::on_behalf_of(&state.pool, workspace_id, next.run(request));
    let mut answer = state.limits.limit(&key, answer).await;
    // An error is shown among the pages that the visitor knows.
    if let Some(refusal) = answer.extensions_mut().remove::<Refusal>() {
        answer = layout::refused(&visit, &refusal);
    }
    if has_notice && let Some(cookie) = Notice::clear(&state) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer.extensions_mut().insert(key);
    Ok(answer)
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The part of `/me` that pages show.
#[derive(Deserialize)]
struct Me {
    workspace: Workspace,
    key: KeyName,
}

#[derive(Deserialize)]
struct Workspace {
    name: String,
    time_zone: String,
}

#[derive(Deserialize)]
struct KeyName {
    name: String,
}

/// The visit of a page by someone who is signed in.
#[derive(Clone)]
pub(crate) struct Visit {
    /// The API, as the key of the session.
    pub crm: Crm,
    /// Who visits.
    pub caller: Caller,
    /// The name of the workspace.
    pub workspace: String,
    /// The name of the key.
    pub key: String,
    /// The time zone of the workspace.
    pub zone: Tz,
    /// The path of the page, with `/console`.
    pub path: String,
    /// The parameters of its URL.
    pub query: Vec<(String, String)>,
    /// What every form carries.
    pub token: String,
    /// What the last form did.
    pub notice: Option<Notice>,
    /// The state of the process, for cookies and settings.
    pub state: AppState,
}

impl Visit {
    /// Whether the key may do this.
    pub fn may(&self, scope: Scope) -> bool {
        self.caller.scopes.allows(scope)
    }

    /// Whether the key may see jobs: it may start some.
    pub fn may_see_jobs(&self) -> bool {
        Scope::STARTING.into_iter().any(|scope| self.may(scope))
    }

    /// What the key may do.
    pub fn scopes(&self) -> Scopes {
        self.caller.scopes
    }

    /// A parameter of the URL that is not empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut found = self.query.iter().filter(|(given, value)| given == name && !value.is_empty());
        found.next().map(|(_, value)| value.as_str())
    }

    /// Checks the token of a form.
    fn check(&self, token: Option<&str>) -> Result<()> {
        let is_own = token.is_some_and(|token| token.as_bytes().ct_eq(self.token.as_bytes()).into());
        let text = "This form belongs to another session. Load the page again and repeat your change.";
        if is_own { Ok(()) } else { Err(Refusal::of(StatusCode::FORBIDDEN, text)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(|| Problem::unauthorized().into())
    }
}

/// A form that was sent with the token of the session.
pub(crate) struct Sent {
    /// Who sent it.
    pub visit: Visit,
    /// Its fields, without the token.
    pub fields: Fields,
}

impl FromRequest<AppState> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, state).await?;
        let request = Request::from_parts(parts, body);
        let mut fields = Fields::new(extract::form(request, state.settings.api.max_body_bytes).await?);
        visit.check(fields.take(TOKEN).as_deref())?;
        Ok(Self { visit, fields })
    }
}

/// A body that is no form, such as a file, with the token of the session in the URL.
pub(crate) struct SentBody {
    /// Who sent it.
    pub visit: Visit,
    /// The request, whose body was not read.
    pub request: Request,
}

impl FromRequest<AppState> for SentBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, state).await?;
        visit.check(visit.parameter(TOKEN))?;
        Ok(Self { visit, request: Request::from_parts(parts, body) })
    }
}

/// The id in the path of a page.
pub(crate) struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let found = axum::extract::Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let id = found.ok().and_then(|found| Uuid::from_text(&found.0.first()?.1).ok());
        id.map(Self).ok_or_else(|| Problem::not_found().into())
    }
}

/// The ids in the path of a page about a part of a record: the record's, and the part's.
pub(crate) struct Ids(pub Uuid, pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let found = axum::extract::Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let found = found.map(|found| found.0).unwrap_or_default();
        let ids: Vec<Uuid> = found.iter().filter_map(|(_, id)| Uuid::from_text(id).ok()).collect();
        match ids[..] {
            [record, part] => Ok(Self(record, part)),
            _ => Err(Problem::not_found().into()),
        }
    }
}

/// Ends the session.
pub(super) async fn sign_out(Sent { visit, .. }: Sent) -> Result<Response> {
    let Some(session_id) = visit.caller.session_id else { return Err(Problem::unauthorized().into()) };
    let mut transaction = Transaction::begin(&visit.state.pool).await?;
    sessions::end(&mut transaction, &visit.caller.actor(), session_id).await?;
    transaction.commit().await?;
    let mut answer = axum::response::Redirect::to("/console/sign-in").into_response();
    if let Some(cookie) = cookie(&visit.state, COOKIE_NAME, "", Some(0)) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let is_allowed = |pairs: &[(HeaderName, &'static str)]| check_origin(&headers(pairs)).is_ok();
        assert!(is_allowed(&[]));
        assert!(is_allowed(&[(SEC_FETCH_SITE, "same-origin"), (ORIGIN, "https://proxied.example")]));
        assert!(is_allowed(&[(ORIGIN, "https://crm.example"), (HOST, "crm.example")]));
        for site in ["cross-site", "same-site", "other"] {
            assert!(!is_allowed(&[(SEC_FETCH_SITE, site)]), "{site}");
        }
        for origin in ["https://evil.example", "null", "https://crm.example.evil.example"] {
            assert!(!is_allowed(&[(ORIGIN, origin), (HOST, "crm.example")]), "{origin}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let headers = headers(&[(COOKIE, "a=1; xcrm_session=no; crm_session=yes"), (COOKIE, "b=2")]);
        assert_eq!(cookie_of(&headers, "crm_session"), Some("yes"));
        assert_eq!(cookie_of(&headers, "session"), None);
    }
}
