//! The OpenAPI 3.1 document, generated from the operations that are served.

mod examples;
pub(crate) mod headers;
pub(crate) mod jobs;
pub mod operations;
pub(crate) mod parameters;
pub(crate) mod problems;
pub(crate) mod schemas;
mod webhooks;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use shared::accounts::scopes::{Scope, Scopes};
use shared::error::NOT_FOUND;
use utoipa::openapi::path::{OperationBuilder, Paths};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::http::access::Access;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::{Problem, Result};
use crate::{AppState, CRM, routes};

const PATH: &str = "/openapi.json";
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
const BEARER: &str = "bearer";
const ABOUT: &str = "Leads, customers, orders and feedback. Long-running work is done by jobs.

- **Keys.** Every path under `/dev/crm` requires `Authorization: Bearer <key>`. A key gives access to one workspace; \
records of other workspaces do not exist for it. What a key may do is named by its scopes; `security` lists those that \
each operation needs. A whole list of records or emails, without `limit`, also needs `exports`. A key that may write \
records but not read them gets only the ids of existing ones.
- **Errors** are JSON with a `message`; a 400 lists every fault of the request. In addition to the errors listed with \
each operation, an unknown path returns 404, a wrong method 405, and a request head that is too large 431.
- **Lists** are bare arrays, newest first. Without `limit`, the whole list is streamed. Custom fields filter as \
`custom.key=value`, `custom.key[ne]=value` and `custom.key=null`.
- **Long-running work** returns 202 and a job, which you can follow at its `Location`.
- **Timestamps** are RFC 3339 in UTC, in the years 1 to 9999. A date without a time means midnight.
- **Unknown fields and parameters** are rejected by name; a typo is never ignored.
- **`X-Request-Id`** is copied from the request, or generated, and returned.";

const TAGS: &[(&str, &str)] = &[
    ("Leads", "People who may become customers."),
    ("Customers", "People and companies that buy."),
    ("Lead interactions", "Calls, emails, meetings and notes with leads, and the next actions."),
    ("Customer interactions", "Calls, emails, meetings and notes with customers, and the next actions."),
    ("Uploads", "Files that wait to be imported."),
    ("Follow-ups", "Next actions that are due."),
    ("Orders", "What customers bought."),
    ("Feedback", "Feedback requests, and the customers' answers."),
    ("Reports", "Figures across many records, at most a minute old."),
    ("Jobs", "Long-running work: its progress, results and rejected rows."),
    ("Events", "What happened, in an order in which a reader misses nothing."),
    ("Schedules", "Jobs that start at their times."),
    ("Account", "The caller of a request."),
    ("Keys", "API keys, and what each of them may do."),
    ("Sessions", "People who are signed in to the console."),
    ("Audit", "Who did what, and when."),
    ("Users", "Members of the workspace, to whom records are assigned with `assigned_to`."),
    ("Settings", "The sender, content and timing of a workspace's email."),
    ("Emails", "Sent and queued emails."),
    ("Suppressions", "Addresses to which a workspace sends no email."),
    ("Webhooks", "Receivers that get a workspace's events by HTTP."),
    ("Pages", "Pages for people who follow a link in an email; they need no key."),
    ("Operations", "Health checks and this document; they need no key."),
];

/// The server of a document that is read without one: the default `public_url`.
const LOCAL: &str = "http://localhost:3000";

/// Generates the document of a server with this public URL.
#[must_use]
pub fn document(public_url: Option<&str>) -> OpenApi {
    let mut paths = Paths::new();
    let mut components = Components::new();
    for (name, header) in headers::all() {
        components.headers.insert(name.to_owned(), header.into());
    }
    components.schemas.extend(problems::schemas());
    for operation in routes::with_key() {
        let path = format!("{CRM}{}", operation.path);
        add(&mut paths, &mut components, path, operation, true);
    }
    for operation in routes::open().into_iter().chain(routes::pages()) {
        let path = operation.path.to_owned();
        add(&mut paths, &mut components, path, operation, false);
    }
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key of a workspace.")).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(key));
    let info = InfoBuilder::new().title("CRM").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    let server = |url: &str, about: &str| ServerBuilder::new().url(url).description(Some(about)).build();
    let servers = match public_url {
        Some(url) => vec![server(url, "The public address."), server("/", "The address of this document.")],
        None => vec![server("/", "The address of this document.")],
    };
    OpenApiBuilder::new()
        .info(info)
        .servers(Some(servers))
        .paths(paths)
        .webhooks(Some(webhooks::paths()))
        .components(Some(components))
        .security(Some([SecurityRequirement::new(BEARER, [""; 0])]))
        .tags(Some(TAGS.iter().map(|(name, about)| TagBuilder::new().name(*name).description(Some(*about)).build())))
        .build()
}

fn add(paths: &mut Paths, components: &mut Components, path: String, mut operation: Operation, with_key: bool) {
    examples::complete(&mut operation);
    let id = operation.id();
    let access = operation.rule().access;
    let keyed = if with_key { problems::WITH_KEY } else { problems::OPEN };
    let mut described = OperationBuilder::new()
        .operation_id(Some(&id))
        .tag(operation.tag)
        .summary(Some(operation.summary))
        .description(operation.description)
        .parameters(Some(operation.parameters))
        .request_body(operation.body);
    for (status, mut answer) in operation.answers {
        let limited = if with_key { headers::LIMITED } else { &[] };
        for header in headers::ALWAYS.iter().chain(limited) {
            answer.headers.insert((*header).to_owned(), RefOr::Ref(headers::reference(header)));
        }
        described = described.response(status.to_string(), answer);
    }
    for status in problems::ANY.iter().chain(keyed).copied().chain(operation.problems).collect::<BTreeSet<u16>>() {
        if operation.is_page {
            described = described.response(status.to_string(), problems::page(status));
            continue;
        }
        let codes: Vec<&str> = match status {
            404 if operation.refers => vec![NOT_FOUND],
            409 => operation.conflicts.iter().map(|reason| reason.code()).collect(),
            _ => Vec::new(),
        };
        let (name, answer) = match codes.is_empty() {
            true => problems::component(status),
            false => problems::component_with(status, &codes),
        };
        described = described.response(status.to_string(), Ref::from_response_name(&name));
        components.responses.insert(name, RefOr::T(answer));
    }
    if with_key && access != Access::AnyKey {
        let (name, answer) = problems::forbidden();
        described = described.response("403", Ref::from_response_name(&name));
        components.responses.insert(name, RefOr::T(answer));
    }
    let alternatives = if with_key { access.alternatives() } else { Vec::new() };
    let security = |scopes: &Scopes| SecurityRequirement::new(BEARER, scopes.iter().map(Scope::as_str));
    described = described.securities(Some(alternatives.iter().map(security)));
    components.schemas.extend(operation.schemas);
    let described = described.build();
    if operation.method == HttpMethod::Put {
        let mut patch = described.clone();
        patch.operation_id = Some(id.replacen("update", "patch", 1));
        paths.add_path_operation(&path, vec![HttpMethod::Patch], patch);
    }
    paths.add_path_operation(path, vec![operation.method], described);
}

/// The document as it is checked in at `docs/openapi.json`, so that every change is visible in a
/// diff.
///
/// # Errors
/// When serialization fails, which the document's types rule out.
pub fn pretty() -> serde_json::Result<String> {
    document(Some(LOCAL)).to_pretty_json().map(|json| json + "\n")
}

/// The document as it is served, with its entity tag.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    json: Bytes,
    tag: String,
}

impl Served {
    fn of(public_url: Option<&str>) -> serde_json::Result<Self> {
        let json = document(public_url).to_json()?;
        let mut hash = DefaultHasher::new();
        json.hash(&mut hash);
        Ok(Self { json: json.into(), tag: format!("\"{:016x}\"", hash.finish()) })
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let content = schemas::content(ObjectBuilder::new().property("openapi", schemas::text()).into());
    let answer = ResponseBuilder::new().description("The OpenAPI 3.1 document.").content("application/json", content);
    tagged(
        "Operations",
        [Operation::get(PATH, serve)
            .named("document", "Get the OpenAPI document")
            .about("Describes every operation of this server, for client generators and documentation.")
            .answers(200, answer)],
    )
}

async fn serve(State(state): State<AppState>) -> Result {
    let served = match state.document.get() {
        Some(served) => served,
        None => {
            let made = Served::of(state.settings.own_url()).map_err(|error| Problem::internal(error.to_string()))?;
            state.document.get_or_init(|| made)
        }
    };
    Ok(([(CONTENT_TYPE, "application/json"), (ETAG, &served.tag)], served.json.clone()).into_response())
}

/// `/docs`: Swagger UI, embedded in the program. A key entered there is not stored in the browser,
/// where any script of this origin could read it.
pub(crate) fn docs() -> Router<AppState> {
    // By default, Swagger UI sends the document to a validator on the web.
    let config = Config::from(PATH).validator_url("none").try_it_out_enabled(true);
    let pages: Router<AppState> = SwaggerUi::new("/docs").config(config).into();
    pages.layer(map_response(guard))
}

/// Restricts the page to its own scripts and to this API.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::routes;

    #[test]
    fn schema_names_are_unique() {
        let mut known = BTreeMap::new();
        let operations = [routes::with_key(), routes::open(), routes::pages()].into_iter().flatten();
        for (name, schema) in operations.flat_map(|operation| operation.schemas) {
            let schema = serde_json::to_value(schema).unwrap();
            let before = known.insert(name.clone(), schema.clone());
            assert!(before.is_none_or(|before| before == schema), "two different schemas are named {name}");
        }
    }
}
