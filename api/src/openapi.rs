//! The API's document, OpenAPI 3.1, made from the operations that are served.

pub(crate) mod headers;
pub mod operations;
pub(crate) mod parameters;
pub(crate) mod problems;
pub(crate) mod schemas;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use shared::error::NOT_FOUND;
use utoipa::openapi::path::{OperationBuilder, Paths};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::openapi::operations::{Operation, tagged};
use crate::respond::{Problem, Result};
use crate::{AppState, CRM, routes};

const PATH: &str = "/openapi.json";
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";
const BEARER: &str = "bearer";
const ABOUT: &str = "Leads, customers, and jobs for everything that takes time.

- **Keys.** Everything under `/dev/crm` asks for `Authorization: Bearer <key>`. A key opens one workspace, and \
records of other workspaces do not exist for it.
- **Errors** are always JSON with a `message`; a 400 names every fault of the request. Beside those listed with each \
operation there are 404 for an unknown path, 405 for a wrong method and 431 for a head that is too large.
- **Lists** are bare arrays, newest first. Without `limit` they are the whole list, streamed.
- **Long work** is answered with 202 and a job, to be followed at its `Location`.
- **Times** are in UTC, as RFC 3339 has them, of the years 1 to 9999. A date alone is taken for its midnight.
- **Unknown fields and parameters** are refused by name; a typo is never ignored.
- **`X-Request-Id`** is taken over from the request, or made, and returned.";

const TAGS: &[(&str, &str)] = &[
    ("Leads", "People who may become customers."),
    ("Customers", "People and companies who buy."),
    ("Interactions", "What was said and done with leads and customers, and what comes next."),
    ("Orders", "What customers bought."),
    ("Feedback", "What customers were asked, and what they answered."),
    ("Reports", "Figures about many records, none older than a minute."),
    ("Jobs", "Long work: what it does, and what it refused."),
    ("Users", "The people of the workspace: who `assigned_to` is."),
    ("Settings", "Who a workspace's mails come from, what they say, and when they go."),
    ("Emails", "What was or will be sent."),
    ("Suppressions", "The addresses to which a workspace sends nothing."),
    ("Pages", "For people who follow a link out of a mail; without a key."),
    ("Operations", "For whoever runs the server; without a key."),
];

/// The document.
#[must_use]
pub fn document() -> OpenApi {
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
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key of a workspace.")).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(key));
    let info = InfoBuilder::new().title("CRM").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(BEARER, [""; 0])]))
        .tags(Some(TAGS.iter().map(|(name, about)| TagBuilder::new().name(*name).description(Some(*about)).build())))
        .build()
}

fn add(paths: &mut Paths, components: &mut Components, path: String, operation: Operation, with_key: bool) {
    let keyed = if with_key { problems::WITH_KEY } else { &[] };
    let mut described = OperationBuilder::new()
        .operation_id(Some(operation.id))
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
    if !with_key {
        described = described.securities(Some([]));
    }
    components.schemas.extend(operation.schemas);
    paths.add_path_operation(path, vec![operation.method], described);
}

/// The document as it is kept beside the code, where each change of it can be read.
///
/// # Errors
/// If it cannot be written as JSON, which it always can.
pub fn pretty() -> serde_json::Result<String> {
    document().to_pretty_json().map(|json| json + "\n")
}

/// The document as it is served, with the tag of this version of it.
static SERVED: LazyLock<Result<(Bytes, String), String>> = LazyLock::new(|| {
    let json = document().to_json().map_err(|error| error.to_string())?;
    let mut hash = DefaultHasher::new();
    json.hash(&mut hash);
    Ok((json.into(), format!("\"{:016x}\"", hash.finish())))
});

pub(crate) fn operations() -> Vec<Operation> {
    let content = schemas::content(ObjectBuilder::new().property("openapi", schemas::text()).into());
    let answer = ResponseBuilder::new().description("OpenAPI 3.1.").content("application/json", content);
    tagged("Operations", [Operation::get(PATH, serve).named("getOpenApi", "This document").answers(200, answer)])
}

async fn serve() -> Result {
    match &*SERVED {
        Ok((json, tag)) => Ok(([(CONTENT_TYPE, "application/json"), (ETAG, tag)], json.clone()).into_response()),
        Err(error) => Err(Problem::internal(error.as_str())),
    }
}

/// `/docs`: the document, to be read and tried out. All of it is part of the program. A key that is entered
/// there is forgotten with the page: what a browser stores, any script of this origin could read.
pub(crate) fn docs() -> Router<AppState> {
    // Its default would send the document to a validator on the web.
    let config = Config::from(PATH).validator_url("none").try_it_out_enabled(true);
    let pages: Router<AppState> = SwaggerUi::new("/docs").config(config).into();
    pages.layer(map_response(guard))
}

/// The page runs its own scripts and talks to this API, and nothing else.
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
    fn no_two_schemas_have_one_name() {
        let mut known = BTreeMap::new();
        let operations = [routes::with_key(), routes::open(), routes::pages()].into_iter().flatten();
        for (name, schema) in operations.flat_map(|operation| operation.schemas) {
            let schema = serde_json::to_value(schema).unwrap();
            let before = known.insert(name.clone(), schema.clone());
            assert!(before.is_none_or(|before| before == schema), "two kinds of things are called {name}");
        }
    }
}
