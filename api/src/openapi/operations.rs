//! Operations: routes together with their description in the OpenAPI document.
//!
//! Each noun lists its operations. The router and the document are both generated from these lists,
//! so they cannot disagree.

mod records;

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{self, MethodRouter};
use shared::accounts::scopes::{Scope, Scopes};
use shared::error::Reason;
use shared::insight::reports::Report;
use shared::jobs::JobUse;
use shared::query::Spec;
use shared::queue::Payload;
use utoipa::ToSchema;
use utoipa::openapi::path::Parameter;
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Required, Response, ResponseBuilder, Type};

use crate::AppState;
use crate::http::access::{self, Access, Rule, Shows};
use crate::http::callbacks;
use crate::http::compression::mark_secret;
use crate::openapi::{headers, jobs, parameters, schemas};

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

    /// Needs this scope, besides those that it needs already.
    pub fn needs(self, scope: Scope) -> Self {
        let scopes = match self.access {
            Some(Access::Scopes(scopes)) => scopes,
            _ => Scopes::NONE,
        };
        Self { access: Some(Access::Scopes(scopes.and(Scopes::of(&[scope])))), ..self }
    }

    /// Needs a key, but no scope.
    pub fn needs_no_scope(self) -> Self {
        Self { access: Some(Access::AnyKey), ..self }
    }

    /// Needs the scope that starts the job, and those of its use.
    pub fn needs_scope_of_job(self, usage: JobUse) -> Self {
        Self { access: Some(Access::Job(usage)), ..self }
    }

    /// Shows records that need this scope. Keys without it get their ids.
    pub fn shows_records(self, scope: Scope) -> Self {
        Self { shows: Shows::Records(scope), ..self }
    }

    /// Shows records that need this scope, unless it has created them.
    pub fn shows_existing(self, scope: Scope) -> Self {
        Self { shows: Shows::Existing(scope), ..self }
    }

    /// Shows a job, in whose result a preview of records needs `records:read`.
    pub fn shows_job(self) -> Self {
        Self { shows: Shows::Job, ..self }
    }

    /// What a key must allow. An operation that does not declare it is for keys that may do everything.
    pub(crate) fn rule(&self) -> Rule {
        let mut access = self.access.unwrap_or(Access::Scopes(Scopes::ALL));
        if let Access::Scopes(scopes) = &mut access
            && self.exports
        {
            *scopes = scopes.and(Scopes::of(&[Scope::Exports]));
        }
        let is_personal = |scopes: Scopes| scopes.has(Scope::RecordsRead) || scopes.has(Scope::EmailsRead);
        let is_list = self.is_list && matches!(access, Access::Scopes(scopes) if is_personal(scopes));
        let writes = matches!(access, Access::Scopes(scopes) if scopes.has(Scope::RecordsWrite));
        let shows = match self.shows {
            Shows::Own if writes => Shows::Existing(Scope::RecordsRead),
            shows => shows,
        };
        Rule { access, is_list, shows }
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

    /// Takes a JSON body.
    pub fn takes(mut self, name: String, schema: RefOr<Schema>) -> Self {
        self.body = Some(schemas::body(JSON, schemas::reference(&name)));
        self.knows([(name, schema)]).problems([415])
    }

    /// Takes an optional JSON body.
    pub fn may_take(self, name: &str, schema: RefOr<Schema>) -> Self {
        let mut described = self.takes(name.to_owned(), schema);
        if let Some(body) = &mut described.body {
            body.required = Some(Required::False);
        }
        described
    }

    /// Takes a form with a file.
    pub fn takes_file(mut self) -> Self {
        let name = "FileUpload";
        self.body = Some(schemas::body("multipart/form-data", schemas::reference(name)));
        self.knows([(name.to_owned(), schemas::file())]).problems([415])
    }

    /// Takes the bytes of a file.
    pub fn takes_bytes(mut self) -> Self {
        self.body = Some(schemas::bytes(false));
        self.problems([400, 415])
    }

    /// Takes the bytes of a file, a form with it, or nothing.
    pub fn takes_file_or_bytes(mut self) -> Self {
        let described = self.takes_file();
        self = described;
        self.body = Some(schemas::bytes(true));
        self
    }

    /// Returns a bare array that has no pages.
    pub fn returns_list<T: ToSchema>(self, description: &'static str) -> Self {
        let content = schemas::content(schemas::array(&T::name()));
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        self.answers(200, response).knows(schemas::of::<T>())
    }

    /// Returns no content, and the offset of an upload.
    pub fn returns_offset(self, status: u16, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(status, response.header_ref("Upload-Offset", headers::reference("Upload-Offset")))
    }

    /// Returns a list, with parameters for filters, search, order and pages.
    pub fn lists<T: ToSchema>(self, spec: &Spec) -> Self {
        let parameters = parameters::of_list(spec).into_iter().chain(parameters::of_page());
        let response = ResponseBuilder::new()
            .description(
                "The whole list, newest first, or one page of it. With the query parameter `fields=id,email`, each item has \
                 only these fields; it is meant for callers that do not need the types of whole records.",
            )
            .content(JSON, schemas::content(schemas::array(&T::name())))
            .header_ref("Link", headers::reference("Link"))
            .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"))
            .header_ref("X-Total-Count", headers::reference("X-Total-Count"));
        let described = Self { is_list: true, ..self };
        described.with(parameters).answers(200, response).knows(schemas::of::<T>()).about_usually(
            "Returns all that match the filters, newest first, as a stream. With `limit`, returns one page; \
             `X-Next-Cursor` and `Link` lead to the next one. Without either header there are no more.",
        )
    }

    /// Returns JSON.
    pub fn returns<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        let content = schemas::content(schemas::reference(&T::name()));
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        self.answers(status, response).knows(schemas::of::<T>())
    }

    /// Returns 201 with JSON and the `Location` of a new record.
    pub fn returns_created<T: ToSchema>(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new()
            .description(description)
            .content(JSON, schemas::content(schemas::reference(&T::name())))
            .header_ref("Location", headers::reference("Location"));
        self.answers(201, response).knows(schemas::of::<T>())
    }

    /// Returns a report, or one of its tables as CSV.
    pub fn reports<R: Report>(self) -> Self {
        let described = self.with(parameters::of_report(&R::OFFERS, R::TABLES));
        let about = "The report, at most a minute old.";
        if !R::OFFERS.period {
            return described.returns_or_csv::<R::Figures>(about);
        }
        let name = format!("{}Response", R::Figures::name());
        let schema = schemas::with_comparison(&R::Figures::name());
        described.answers(200, json_or_csv(about, &name)).knows(schemas::of::<R::Figures>()).knows([(name, schema)])
    }

    /// Returns JSON, or a table of it as CSV.
    pub fn returns_or_csv<T: ToSchema>(self, about: &'static str) -> Self {
        self.answers(200, json_or_csv(about, &T::name())).knows(schemas::of::<T>())
    }

    /// Returns text of a media type.
    pub fn returns_text(self, description: &'static str, kind: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(kind, schemas::content(schemas::text())))
    }

    /// Takes a form as browsers send it.
    pub fn takes_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::body("application/x-www-form-urlencoded", schema.into()));
        self
    }

    /// Takes a form in either of its encodings.
    pub fn takes_any_form(mut self, schema: impl Into<RefOr<Schema>>) -> Self {
        self.body = Some(schemas::forms(schema.into()));
        self
    }

    /// Returns an HTML page.
    pub fn shows(self, description: &'static str) -> Self {
        let response = ResponseBuilder::new().description(description);
        self.answers(200, response.content(HTML, schemas::content(schemas::text())))
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

    /// Returns 202 with a job of this kind.
    pub fn accepts<P: Payload>(self) -> Self {
        self.accepts_job(&jobs::name_of::<P>())
    }

    /// Returns 202 with a job of any kind.
    pub fn accepts_any(self) -> Self {
        self.accepts_job(jobs::ANY)
    }

    fn accepts_job(self, schema: &str) -> Self {
        let response = |about: &str| {
            ResponseBuilder::new()
                .description(about)
                .content(JSON, schemas::content(schemas::reference(schema)))
                .header_ref("Location", headers::reference("Location"))
                .header_ref("Preference-Applied", headers::reference("Preference-Applied"))
        };
        let described = self
            .with([parameters::prefer()])
            .with(parameters::of_callback())
            .answers(202, response("Accepted. The job runs even if processes or machines fail."))
            .answers(200, response("With `Prefer: wait=N`, the job, which has ended."))
            .knows(jobs::schemas())
            .shows_job();
        Self { starts_job: true, ..described }
    }

    /// Adds a header to a response.
    pub fn returns_header(mut self, status: u16, name: &str) -> Self {
        for (_, response) in self.answers.iter_mut().filter(|(of, _)| *of == status) {
            response.headers.insert(name.to_owned(), RefOr::Ref(headers::reference(name)));
        }
        self
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

/// A response in JSON or CSV.
fn json_or_csv(about: &'static str, schema: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(about)
        .content(JSON, schemas::content(schemas::reference(schema)))
        .content(CSV, schemas::content(schemas::text()))
        .header_ref("Content-Disposition", headers::reference("Content-Disposition"))
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
