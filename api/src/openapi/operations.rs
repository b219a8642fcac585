//! Operations: a route and what is said about it in the API's document, in one place.
//!
//! Each noun gives a list of its operations. The router and the document are both made from these
//! lists, so what is served is described, and what is described is served.

mod records;

use std::collections::BTreeSet;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use shared::error::Reason;
use shared::query::Spec;
use shared::queue::Job;
use utoipa::ToSchema;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Required, Response, ResponseBuilder, Type};

use crate::AppState;
use crate::openapi::{headers, parameters, schemas};

const JSON: &str = "application/json";
const CSV: &str = "text/csv";
pub(crate) const HTML: &str = "text/html";

/// A route with its description.
#[must_use]
pub struct Operation {
    pub(crate) method: HttpMethod,
    pub(crate) path: &'static str,
    handler: MethodRouter<AppState>,
    pub(crate) id: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) description: Option<&'static str>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<RequestBody>,
    pub(crate) answers: Vec<(u16, Response)>,
    pub(crate) problems: BTreeSet<u16>,
    /// Why it may answer with 409.
    pub(crate) conflicts: BTreeSet<Reason>,
    /// Whether its body may refer to records that do not exist.
    pub(crate) refers: bool,
    /// Whether all its answers are pages for people, errors included.
    pub(crate) is_page: bool,
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// A `GET`.
    pub fn get<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(HttpMethod::Get, path, routing::get(handler))
    }

    /// A `POST`, which reads a body, though it may be empty, and is not done twice for one
    /// `Idempotency-Key`.
    pub fn post<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Post, path, routing::post(handler));
        described.with([parameters::idempotency_key()]).problems([408, 409, 413, 415, 422])
    }

    /// A `PUT`, which reads a body and honours `If-Match`.
    pub fn put<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Put, path, routing::put(handler));
        described.with([parameters::if_match()]).problems([408, 409, 412, 413])
    }

    /// A `DELETE`, which honours `If-Match`.
    pub fn delete<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        let described = Self::new(HttpMethod::Delete, path, routing::delete(handler));
        described.with([parameters::if_match()]).problems([412])
    }

    /// A `GET` of a page for people.
    pub fn page<H: Handler<T, AppState>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self { is_page: true, ..Self::get(path, handler) }
    }

    /// A `POST` of the form on such a page.
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
            id: "",
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
            schemas: Vec::new(),
        }
    }

    /// The name by which programs call it, and what it does in a few words.
    pub fn named(self, id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, ..self }
    }

    /// What else there is to know, in Markdown.
    pub fn about(self, description: &'static str) -> Self {
        Self { description: Some(description), ..self }
    }

    /// It has further parameters.
    pub fn with(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// It may answer with these errors, beside those that any operation may.
    pub fn problems(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.problems.extend(statuses);
        self
    }

    /// It may conflict with what is there, for these reasons.
    pub fn conflicts(mut self, reasons: impl IntoIterator<Item = Reason>) -> Self {
        self.conflicts.extend(reasons);
        self.problems([409])
    }

    /// Its body may refer to other records, which may not exist.
    pub fn refers(mut self) -> Self {
        self.refers = true;
        self.problems([404])
    }

    /// Its body is JSON.
    pub fn takes(mut self, name: String, schema: RefOr<Schema>) -> Self {
        self.body = Some(schemas::body(JSON, schemas::reference(&name)));
        self.knows([(name, schema)]).problems([415])
    }

    /// Its body is JSON, and may be left out.
    pub fn may_take(self, name: &str, schema: RefOr<Schema>) -> Self {
        let mut described = self.takes(name.to_owned(), schema);
        if let Some(body) = &mut described.body {
            body.required = Some(Required::False);
        }
        described
    }

    /// Its body is a form with a file.
    pub fn takes_file(mut self) -> Self {
        self.body = Some(schemas::body("multipart/form-data", schemas::file()));
        self.problems([415])
    }

    /// It lists things: filters, order, search and pages.
    pub fn lists<T: ToSchema>(self, spec: &Spec) -> Self {
        let parameters = parameters::of_list(spec).into_iter().chain(parameters::of_page());
        let response = ResponseBuilder::new()
            .description("The whole list, newest first, or a page of it.")
            .content(JSON, schemas::content(schemas::array(&T::name())))
            .header_ref("Link", headers::reference("Link"))
            .header_ref("X-Total-Count", headers::reference("X-Total-Count"));
        self.with(parameters).answers(200, response).knows(schemas::of::<T>())
    }

    /// It answers with JSON.
    pub fn returns<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        let content = schemas::content(schemas::reference(&T::name()));
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        self.answers(status, response).knows(schemas::of::<T>())
    }

    /// It answers with JSON, and with the place of what was made.
    pub fn makes<T: ToSchema>(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new()
            .description(description)
            .content(JSON, schemas::content(schemas::reference(&T::name())))
            .header_ref("Location", headers::reference("Location"));
        self.answers(201, response).knows(schemas::of::<T>())
    }

    /// It is a report about a period, which it takes as parameters.
    pub fn reports<T: ToSchema>(self) -> Self {
        self.with(parameters::of_period()).returns::<T>(200, "The figures, none older than a minute.")
    }

    /// It answers with a text of some kind.
    pub fn returns_text(self, description: &'static str, kind: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(kind, schemas::content(schemas::text())))
    }

    /// Its body is a form, as a page sends it.
    pub fn takes_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::body("application/x-www-form-urlencoded", schema.into()));
        self
    }

    /// Its body is a form, in any of the ways in which programs send one.
    pub fn takes_any_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::forms(schema.into()));
        self
    }

    /// It answers with a page.
    pub fn shows(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(HTML, schemas::content(schemas::text())))
    }

    /// It can tell what it would do, and do nothing.
    pub fn can_run_dry(self, description: &'static str) -> Self {
        let flag = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into()));
        self.with([parameters::query("dry_run", description, flag)])
    }

    /// It answers with a job that was accepted.
    pub fn accepts(self) -> Self {
        let response = ResponseBuilder::new()
            .description("Accepted: the work will be done, whatever process or machine dies.")
            .content(JSON, schemas::content(schemas::reference(&Job::name())))
            .header_ref("Location", headers::reference("Location"));
        self.answers(202, response).knows(schemas::of::<Job>())
    }

    /// It answers in some way.
    pub fn answers(mut self, status: u16, mut response: ResponseBuilder) -> Self {
        if self.method == HttpMethod::Post && !self.is_page {
            response = response.header_ref("Idempotent-Replayed", headers::reference("Idempotent-Replayed"));
        }
        self.answers.push((status, response.build()));
        self
    }

    /// Schemas that its description refers to.
    pub fn knows(mut self, schemas: impl IntoIterator<Item = (String, RefOr<Schema>)>) -> Self {
        self.schemas.extend(schemas);
        self
    }
}

/// Operations that belong together.
pub fn tagged(tag: &'static str, operations: impl IntoIterator<Item = Operation>) -> Vec<Operation> {
    operations.into_iter().map(|operation| Operation { tag, ..operation }).collect()
}

/// The routes of operations.
pub fn routes(operations: &[Operation]) -> Router<AppState> {
    operations.iter().fold(Router::new(), |router, operation| router.route(operation.path, operation.handler.clone()))
}
