//! Operations: routes together with their description in the OpenAPI document.
//!
//! Each noun lists its operations. The router and the document are both generated from these lists,
//! so they cannot disagree.

mod content;
mod records;
mod scopes;

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{self, MethodRouter};
use shared::error::Reason;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Response, ResponseBuilder, Type};

use crate::AppState;
use crate::http::access::{self, Access, Shows};
use crate::http::callbacks;
use crate::http::compression::mark_secret;
use crate::openapi::{headers, parameters};

const JSON: &str = "application/json";
const CSV: &str = "text/csv";
pub(crate) const HTML: &str = "text/html";

/// A route with its description.
#[must_use]
pub struct Operation {
    pub(crate) method: HttpMethod,
    pub(crate) path: &'static str,
    handler: MethodRouter<AppState>,
    name: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: Option<&'static str>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<RequestBody>,
    pub(crate) answers: Vec<(u16, Response)>,
    pub(crate) problems: BTreeSet<u16>,
    /// The reasons of its 409 responses.
    pub(crate) conflicts: BTreeSet<Reason>,
    /// Whether its body can refer to records that do not exist.
    pub(crate) refers: bool,
    /// Whether all its responses are HTML pages, errors included.
    pub(crate) is_page: bool,
    /// Whether its responses show a secret, such as the link in an email.
    shows_secret: bool,
    /// What a key must allow, if that is declared.
    access: Option<Access>,
    /// Whether a whole list or file of it needs `exports`.
    exports: bool,
    is_list: bool,
    shows: Shows,
    /// Whether it starts a job.
    starts_job: bool,
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// Describes a `GET`.
    pub fn get<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Get, path, routing::get(handler))
    }

    /// Describes a `POST`, which may have a body and honours `Idempotency-Key`.
    pub fn post<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Post, path, routing::post(handler));
        let described = described.with([parameters::idempotency_key()]).problems([408, 413, 415, 422]);
        described.conflicts([Reason::RequestRunning])
    }

    /// Describes a `PUT`, which has a body and honours `If-Match`. A `PATCH` does the same.
    pub fn put<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Put, path, routing::put(handler.clone()).patch(handler));
        described.with([parameters::if_match()]).problems([408, 412, 413])
    }

    /// Describes a `PATCH` that is no update of a record.
    pub fn patch<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Patch, path, routing::patch(handler)).problems([408, 413])
    }

    /// Describes a `DELETE`, which honours `If-Match`.
    pub fn delete<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Delete, path, routing::delete(handler));
        described.with([parameters::if_match()]).problems([412])
    }

    /// Describes the `GET` of an HTML page.
    pub fn page<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self { is_page: true, ..Self::get(path, handler) }
    }

    /// Describes the `POST` of an HTML page's form.
    pub fn form<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self { is_page: true, ..Self::new(HttpMethod::Post, path, routing::post(handler)) }
    }

    fn new(method: HttpMethod, path: &'static str, handler: MethodRouter<AppState>) -> Self {
        let parameters = parameters::of_path(path);
        let problems = if parameters.is_empty() { BTreeSet::new() } else { BTreeSet::from([404]) };
        Self {
            method,
            path,
            handler,
            name: "",
            tag: "",
            summary: "",
            description: None,
            parameters,
            body: None,
            answers: Vec::new(),
            problems,
            conflicts: BTreeSet::new(),
            refers: false,
            is_page: false,
            shows_secret: false,
            access: None,
            exports: false,
            is_list: false,
            shows: Shows::Own,
            starts_job: false,
            schemas: Vec::new(),
        }
    }

    /// The methods that its handler serves.
    fn methods(&self) -> &'static [&'static str] {
        match self.method {
            HttpMethod::Get => &["GET", "HEAD"],
            HttpMethod::Post => &["POST"],
            HttpMethod::Put => &["PUT", "PATCH"],
            HttpMethod::Patch => &["PATCH"],
            HttpMethod::Delete => &["DELETE"],
            _ => &[],
        }
    }

    /// Sets the summary, and the name of the operation within its tag: clients call it
    /// `client.leads.list()`.
    pub fn named(self, name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, ..self }
    }

    /// The id of the operation: `leads.list`.
    pub(crate) fn id(&self) -> String {
        let words = self.tag.split([' ', '-']).enumerate().map(|(at, word)| match at {
            0 => word.to_ascii_lowercase(),
            _ => word[..1].to_ascii_uppercase() + &word[1..],
        });
        words.collect::<String>() + "." + self.name
    }

    /// Sets the description, in Markdown.
    pub fn about(self, description: &'static str) -> Self {
        Self { description: Some(description), ..self }
    }

    /// Marks its responses as showing a secret.
    pub fn shows_secret(self) -> Self {
        Self { shows_secret: true, ..self }
    }

    /// Sets the description, unless there is one already.
    pub(crate) fn about_usually(self, description: &'static str) -> Self {
        Self { description: self.description.or(Some(description)), ..self }
    }

    /// Adds parameters.
    pub fn with(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Adds error statuses to those of every operation.
    pub fn problems(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// Adds a 409 for these reasons.
    pub fn conflicts(mut self, reasons: impl IntoIterator<Item = Reason>) -> Self {
        self.conflicts.extend(reasons);
        self.problems([409])
    }

    /// Adds a 404 for references in the body to records that do not exist.
    pub fn refers(mut self) -> Self {
        self.refers = true;
        self.problems([404])
    }

    /// Adds the parameter `dry_run`.
    pub fn can_run_dry(self, description: &'static str) -> Self {
        let flag = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into()));
        self.with([parameters::query("dry_run", description, flag)])
    }

    /// Adds the parameter `confirm`.
    pub fn confirms(self) -> Self {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX));
        let about =
            "The most emails that the run writes. The others stay due, and are counted in `skipped` as `limit`.";
        self.with([parameters::query("confirm", about, number)])
    }

    /// Adds a response.
    pub fn answers(mut self, status: u16, mut response: ResponseBuilder) -> Self {
        if self.method == HttpMethod::Post && !self.is_page {
            response = response.header_ref("Idempotent-Replayed", headers::reference("Idempotent-Replayed"));
        }
        self.answers.push((status, response.build()));
        self
    }

    /// Adds schemas that the description refers to.
    pub fn knows(mut self, schemas: impl IntoIterator<Item = (String, RefOr<Schema>)>) -> Self {
        self.schemas.extend(schemas);
        self
    }
}

/// Tags operations.
pub fn tagged(tag: &'static str, operations: impl IntoIterator<Item = Operation>) -> Vec<Operation> {
    operations.into_iter().map(|operation| Operation { tag, ..operation }).collect()
}

/// The routes of operations that need a key, with what it must allow.
pub fn routes_with_key(operations: &[Operation], state: &AppState) -> Router<AppState> {
    build(operations, |operation, handler| {
        handler.layer(from_fn_with_state((state.clone(), operation.rule()), access::enforce))
    })
}

/// The routes of operations that need no key.
pub fn routes(operations: &[Operation]) -> Router<AppState> {
    build(operations, |_, handler| handler)
}

/// Each path also answers `OPTIONS` with its methods.
fn build(
    operations: &[Operation],
    guard: impl Fn(&Operation, MethodRouter<AppState>) -> MethodRouter<AppState>,
) -> Router<AppState> {
    let mut methods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for operation in operations {
        methods.entry(operation.path).or_default().extend(operation.methods());
    }
    let router = operations.iter().fold(Router::new(), |router, operation| {
        let handler = guard(operation, operation.handler.clone());
        let handler = if operation.shows_secret { handler.layer(map_response(mark_secret)) } else { handler };
        let handler = if operation.starts_job { handler.layer(from_fn(callbacks::take)) } else { handler };
        router.route(operation.path, handler)
    });
    methods.into_iter().fold(router, |router, (path, methods)| {
        let allow = methods.join(", ") + ", OPTIONS";
        router.route(path, routing::options(move || async move { (StatusCode::NO_CONTENT, [(ALLOW, allow)]) }))
    })
}
