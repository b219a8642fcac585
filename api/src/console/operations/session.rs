//! Which operator is signed in, and the operator API as the pages use it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, FromRequestParts, Request, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::accounts::OperatorKey;
use shared::accounts::sessions::Token;
use shared::operations::actions::{By, Source};
use shared::operations::{operators, sessions};
use tower::ServiceExt;

use crate::AppState;
use crate::console::crm;
use crate::console::forms::{self, Fields, FormToken};
use crate::console::layout;
use crate::console::live::Visitor;
use crate::console::notice::Notice;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::{FORMS, TOKEN, check_origin, cookie_of, is_read, matches_token};
use crate::extract;
use crate::http::peer::Client;
use crate::respond::Problem;

/// Other than that of the public port: browsers share cookies between the ports of a host.
const COOKIE_NAME: &str = "crm_operator_session";
const NOTICE_NAME: &str = "crm_operator_notice";
const NOTICE_SECONDS: i64 = 60;
const SIGN_IN: &str = "/console/sign-in";
const KEY: &str = "key";
const MAX_FORM: usize = 64 * 1024;

/// The operator API in this process.
#[derive(Clone)]
pub(crate) struct OperatorApi {
    routes: Router,
    by: Option<By>,
}

impl OperatorApi {
    /// The API, for nobody yet.
    pub fn new(routes: Router) -> Self {
        Self { routes, by: None }
    }

    /// Reads what is at a path under `/operator`.
    ///
    /// # Errors
    /// The API's.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let data: Data<T> = crm::read(self.ask(Method::GET, path, None).await?).await?.1;
        Ok(data.data)
    }

    /// Sends a change, and returns the action.
    ///
    /// # Errors
    /// The API's.
    pub async fn act<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T> {
        let data: Data<T> = crm::read(self.ask(Method::POST, path, Some(body)).await?).await?.1;
        Ok(data.data)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response> {
        let Some(by) = self.by.clone() else { return Err(Problem::unauthorized().into()) };
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(format!("/operator{path}"));
        let request = request.header(CONTENT_TYPE, "application/json").extension(by).body(body);
        let request = request.map_err(|error| Problem::internal(error.to_string()))?;
        match self.routes.clone().oneshot(request).await {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

/// A request of an operator for a page.
#[derive(Clone)]
pub(crate) struct OperatorVisit {
    /// The operator's name.
    pub operator: String,
    /// The path of the page.
    pub path: String,
    /// The token of the session.
    token: Token,
    /// The token of its forms.
    form_token: String,
    /// What the last form did.
    pub notice: Option<Notice>,
    /// The operator API, as this operator.
    pub api: OperatorApi,
    state: AppState,
}

impl FormToken for OperatorVisit {
    fn form_token(&self) -> &str {
        &self.form_token
    }
}

impl Visitor for OperatorVisit {
    fn state(&self) -> &AppState {
        &self.state
    }

    async fn is_signed_in(&self) -> Result<bool> {
        Ok(sessions::open(&mut *self.state.connection().await?, &self.token).await?.is_some())
    }
}

impl<S: Sync> FromRequestParts<S> for OperatorVisit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let visit = parts.extensions.get().cloned();
        visit.ok_or_else(|| Problem::internal("a page of operators without an operator").into())
    }
}

/// A `Set-Cookie` for this port. The admin port speaks plain HTTP, so it cannot be `Secure`.
fn cookie(name: &str, value: &str, seconds: Option<i64>) -> Option<HeaderValue> {
    let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    HeaderValue::try_from(format!("{name}={value}; Path=/console; HttpOnly; SameSite=Strict{age}")).ok()
}

fn token_of(headers: &HeaderMap) -> Option<Token> {
    Token::parse(cookie_of(headers, COOKIE_NAME)?)
}

/// Runs a page for the operator who is signed in, and sends others to the page that signs in.
pub(super) async fn require(
    State((state, api)): State<(AppState, OperatorApi)>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    let Some(token) = token_of(request.headers()) else { return Ok(Redirect::to(SIGN_IN).into_response()) };
    let operator = sessions::open(&mut *state.connection().await?, &token).await?;
    let Some(operator) = operator else { return Ok(Redirect::to(SIGN_IN).into_response()) };
    if !is_read(request.method()) {
        check_origin(request.headers())?;
    }
    let by = By::operator(&operator, Source::Console);
    let notice = cookie_of(request.headers(), NOTICE_NAME).and_then(Notice::decode);
    let visit = OperatorVisit {
        operator: operator.name,
        path: format!("/console{}", request.uri().path().trim_end_matches('/')),
        form_token: token.derive(FORMS),
        token,
        api: OperatorApi { by: Some(by), ..api },
        notice,
        state,
    };
    request.extensions_mut().insert(visit.clone());
    let mut answer = next.run(request).await;
    if let Some(refusal) = answer.extensions_mut().remove::<Refusal>() {
        answer = layout::refused_in(&frame(&visit), &refusal);
    }
    if visit.notice.is_some()
        && let Some(cookie) = cookie(NOTICE_NAME, "", Some(0))
    {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}

/// A page of operators.
pub(super) fn page(status: StatusCode, visit: &OperatorVisit, title: &str, content: &Markup) -> Response {
    layout::page_in(status, &frame(visit), title, content)
}

/// What is around the content of each page.
fn frame(visit: &OperatorVisit) -> layout::Frame {
    let is_here = |path: &str| visit.path == path || visit.path == format!("{path}/");
    let places = [("/console", "Operations"), ("/console/jobs", "Jobs")];
    layout::Frame {
        side: html! {
            p.workspace { "All workspaces" }
            nav.places aria-label="Console" {
                @for (path, name) in places {
                    a href=(path) aria-current=[is_here(path).then_some("page")] { (name) }
                }
            }
            div.account {
                p.quiet { "Signed in as " strong { (visit.operator) } }
                (forms::button(visit, "/console/sign-out", "Sign out"))
            }
        },
        notice: match &visit.notice {
            Some(notice) => html! { div.notice role="status" { p { (notice.text) } } },
            None => html! {},
        },
    }
}

/// Reads a form and checks its token.
///
/// # Errors
/// 403 for a token of another session.
pub(super) async fn form(visit: &OperatorVisit, request: Request) -> Result<Fields> {
    let mut fields = Fields::new(extract::form(request, MAX_FORM).await?);
    matches_token(fields.take(TOKEN).as_deref(), visit.form_token())?;
    fields.take_once();
    Ok(fields)
}

/// Leads to a page after a form, which says what was done.
pub(super) fn done(path: &str, notice: &Notice) -> Response {
    let mut answer = Redirect::to(path).into_response();
    if let Some(cookie) = notice.encode().and_then(|text| cookie(NOTICE_NAME, &text, Some(NOTICE_SECONDS))) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    answer
}

pub(super) async fn ask() -> Response {
    layout::bare(StatusCode::OK, "Sign in", &question(None))
}

fn question(wrong: Option<&str>) -> Markup {
    html! {
        h1 { "Operations" }
        @if let Some(wrong) = wrong { div.problems role="alert" { p { (wrong) } } }
        form method="post" action=(SIGN_IN) {
            div.field {
                label for="f-key" { "Operator key" }
                input #f-key type="password" name=(KEY) required autocomplete="off" autofocus;
                p.hint { code { "crm-api operators create NAME" } " prints one." }
            }
            button.primary type="submit" { "Sign in" }
        }
    }
}

/// Begins a session: always a new one, so that nobody can plant the token of theirs.
pub(super) async fn sign_in(
    State(state): State<AppState>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response> {
    check_origin(&headers)?;
    let mut fields = Fields::new(extract::form(request, MAX_FORM).await?);
    let connection = &mut *state.connection().await?;
    let operator = match OperatorKey::parse(fields.take(KEY).unwrap_or_default().trim()) {
        Some(key) => operators::open(connection, &key).await?,
        None => None,
    };
    let Some(operator) = operator else {
        let rejected = state.limits.reject(client.map(|Extension(client)| client), Problem::unauthorized());
        if rejected.status() != StatusCode::UNAUTHORIZED {
            return Err(rejected.into());
        }
        let content = question(Some("This is not a valid operator key."));
        return Ok(layout::bare(StatusCode::UNAUTHORIZED, "Sign in", &content));
    };
    if let Some(former) = token_of(&headers) {
        sessions::end(connection, &former).await?;
    }
    let token = sessions::begin(connection, &operator).await?;
    let cookie = cookie(COOKIE_NAME, &token.reveal(), None);
    let cookie = cookie.ok_or_else(|| Problem::internal("a token is not a cookie"))?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/console")).into_response())
}

pub(super) async fn sign_out(
    State(state): State<AppState>,
    visit: OperatorVisit,
    request: Request,
) -> Result<Response> {
    form(&visit, request).await?;
    sessions::end(&mut *state.connection().await?, &visit.token).await?;
    let mut answer = Redirect::to(SIGN_IN).into_response();
    if let Some(cookie) = cookie(COOKIE_NAME, "", Some(0)) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}
