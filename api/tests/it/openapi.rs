//! The OpenAPI document is complete, accurate and checked in.

use std::collections::BTreeSet;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{self, Api, body};

/// Every endpoint of the specification.
const SPECIFIED: &[&str] = &[
    "GET /dev/crm/leads",
    "GET /dev/crm/leads/{leadId}",
    "POST /dev/crm/leads",
    "PUT /dev/crm/leads/{leadId}",
    "DELETE /dev/crm/leads/{leadId}",
    "POST /dev/crm/leads/{leadId}/convert",
    "POST /dev/crm/leads/import",
    "GET /dev/crm/leads/export",
    "POST /dev/crm/leads/nurture/start",
    "GET /dev/crm/leads/{leadId}/interactions",
    "POST /dev/crm/leads/{leadId}/interactions",
    "PUT /dev/crm/leads/{leadId}/interactions/{interactionId}",
    "DELETE /dev/crm/leads/{leadId}/interactions/{interactionId}",
    "GET /dev/crm/customers",
    "POST /dev/crm/customers",
    "PUT /dev/crm/customers/{customerId}",
    "DELETE /dev/crm/customers/{customerId}",
    "POST /dev/crm/customers/import",
    "GET /dev/crm/customers/export",
    "GET /dev/crm/customers/segments",
    "GET /dev/crm/customers/{customerId}/health",
    "GET /dev/crm/customers/{customerId}/interactions",
    "POST /dev/crm/customers/{customerId}/interactions",
    "PUT /dev/crm/customers/{customerId}/interactions/{interactionId}",
    "DELETE /dev/crm/customers/{customerId}/interactions/{interactionId}",
    "GET /dev/crm/orders",
    "GET /dev/crm/orders/{orderId}",
    "POST /dev/crm/orders",
    "PUT /dev/crm/orders/{orderId}",
    "DELETE /dev/crm/orders/{orderId}",
    "POST /dev/crm/customers/{customerId}/feedback/request",
    "POST /dev/crm/feedback/{feedbackId}",
    "GET /dev/crm/feedback/analytics",
    "POST /dev/crm/feedback/process-reminders",
    "GET /dev/crm/feedback/themes",
    "GET /dev/crm/feedback/dashboard",
    "GET /dev/crm/reports/leads",
    "GET /dev/crm/reports/customers",
    "GET /dev/crm/analytics/dashboard",
    "POST /dev/crm/followups/process",
];

/// The operations of the document as `GET /dev/crm/leads`, each with its description.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, item)| {
        ["get", "put", "post", "delete", "patch"]
            .map(|method| (format!("{} {path}", method.to_uppercase()), &item[method]))
    });
    all.filter(|(_, operation)| operation.is_object()).collect()
}

fn document() -> Value {
    serde_json::to_value(api::openapi::document(None)).unwrap()
}

#[test]
fn the_checked_in_document_matches_the_code() {
    let checked_in = include_str!("../../../docs/openapi.json");
    assert!(
        checked_in == api::openapi::pretty().unwrap(),
        "docs/openapi.json is out of date; regenerate it and review the changes:\n    \
         cargo run -p api -- openapi > docs/openapi.json && git diff docs/openapi.json"
    );
}

#[test]
fn every_endpoint_of_the_specification_is_in_the_document() {
    let document = document();
    let described: BTreeSet<String> = operations(&document).into_iter().map(|(name, _)| name).collect();
    let specified: BTreeSet<&str> = SPECIFIED.iter().copied().collect();
    assert_eq!(specified.len(), 40);
    for name in specified {
        assert!(described.contains(name), "{name} is not in the document");
    }
}

#[test]
fn every_operation_is_described() {
    let document = document();
    let tags: Vec<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        assert!(!text("summary").is_empty() && !text("description").is_empty(), "{name}");
        // Generators make `client.leads.list()` of tag and id.
        let tag = operation["tags"][0].as_str().unwrap().to_lowercase().replace([' ', '-'], "");
        let (group, verb) = text("operationId").split_once('.').unwrap();
        assert_eq!((group.to_lowercase(), verb.is_empty()), (tag, false), "{name}");
        assert!(!["import", "class", "return", "from", "with"].contains(&verb), "{name}: reserved in Python");
        assert!(ids.insert(text("operationId").to_owned()), "{name}: its operation id is not unique");
        assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{name}: its tag has no description");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with(['2', '3'])), "{name} has no successful response");
        let created = answers.get("201");
        let has_location = created.is_none_or(|created| created["headers"]["Location"].is_object());
        assert!(has_location, "{name}: its 201 has no Location");
        let parameters = operation["parameters"].as_array().unwrap();
        let names: BTreeSet<&str> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), parameters.len(), "{name} has a duplicate parameter");
        for part in name.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            assert!(names.contains(part), "{name}: {part}");
        }
    }
}

#[test]
fn every_reference_can_be_resolved() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                    assert!(found.is_some(), "{reference}");
                }
                fields.values().for_each(|value| check(document, value));
            }
            Value::Array(items) => items.iter().for_each(|value| check(document, value)),
            _ => {}
        }
    }
    check(&document(), &document());
}

#[tokio::test]
async fn every_operation_requires_a_key_if_the_document_says_so() {
    let api = Api::start().await;
    let document = document();
    assert_eq!(document["security"], json!([{ "bearer": [] }]));
    for (name, operation) in operations(&document) {
        let (method, path) = name.split_once(' ').unwrap();
        let path = path.replace(['{', '}'], "");
        let request = Client::new().request(Method::from_bytes(method.as_bytes()).unwrap(), api.url(&path));
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        if operation.get("security") == Some(&json!([])) {
            assert_ne!(status, 401, "{name}");
        } else {
            let expected =
                &document["components"]["responses"]["Unauthorized"]["content"]["application/json"]["example"];
            assert_eq!(body(answer, 401).await, *expected, "{name}");
        }
        assert!(
            operation["responses"].get(status.to_string()).is_some(),
            "{name} does not describe the status {status}"
        );
    }
}

#[tokio::test]
async fn examples_are_accepted_and_responses_match_their_schemas() {
    let api = Api::start().await;
    let document = document();
    let schema = |place: &Value| document.pointer(&place["schema"]["$ref"].as_str().unwrap()[1..]).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut parents: Vec<(String, String)> = Vec::new();
    for (name, operation) in operations(&document) {
        let (method, path) = name.split_once(' ').unwrap();
        let (body, created) = (&operation["requestBody"]["content"], &operation["responses"]["201"]["content"]);
        let Some(json) = body.get("application/json").filter(|_| method == "POST" && created.is_object()) else {
            continue;
        };
        let mut example = schema(json)["examples"][0].clone();
        // Parents and references are the records created before.
        let mut path = path.to_owned();
        for (parameter, id) in &parents {
            path = path.replace(&format!("{{{parameter}Id}}"), id);
            let field = format!("{parameter}_id");
            if example.get(&field).is_some() {
                example[field] = json!(id);
            }
        }
        if path.ends_with("/convert") || path.ends_with("/emails/test") {
            continue;
        }
        let noun = operation["responses"]["201"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let noun = noun.rsplit('/').next().unwrap().to_lowercase();
        let record = support::json(api.post(&path).json(&example), 201).await;
        let described = schema(&created["application/json"]);
        let required = described["required"].as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned());
        assert_eq!(keys(&record), required.collect(), "{name}");
        assert_eq!(keys(&record), keys(&described["examples"][0]), "{name}");
        for (field, value) in example.as_object().unwrap() {
            assert_eq!(record[field], *value, "{name}: {field}");
        }
        parents.push((noun, record["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(parents.len(), 10, "{parents:?}");
}

/// Why a value does not match a schema of the document, as far as examples need it.
fn mismatch(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return mismatch(document, document.pointer(&reference[1..]).unwrap(), value);
    }
    let fits = |schema: &&Value| mismatch(document, schema, value).is_none();
    let parts = |name: &str| schema[name].as_array().map(|parts| parts.iter().filter(fits).count());
    if parts("oneOf").is_some_and(|fitting| fitting != 1) || parts("anyOf") == Some(0) {
        return Some(format!("{value} is none of the alternatives"));
    }
    if let Some(failed) =
        schema["allOf"].as_array().and_then(|all| all.iter().find_map(|it| mismatch(document, it, value)))
    {
        return Some(failed);
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Some(format!("{value} is none of the words"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().map(|of| of.as_str().unwrap()).collect(),
        _ => Vec::new(),
    };
    let is_of = |of: &&str| match *of {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        of => of == "null" && value.is_null(),
    };
    if !types.is_empty() && !types.iter().any(is_of) {
        return Some(format!("{value} is not {types:?}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| mismatch(document, &schema["items"], item));
    }
    let fields = value.as_object()?;
    let missing =
        schema["required"].as_array().into_iter().flatten().find(|name| !fields.contains_key(name.as_str().unwrap()));
    if let Some(missing) = missing {
        return Some(format!("{missing} is missing"));
    }
    fields.iter().find_map(|(name, value)| match schema["properties"].get(name) {
        Some(schema) => mismatch(document, schema, value).map(|why| format!("{name}: {why}")),
        None if schema["additionalProperties"] == json!(false) => Some(format!("{name} is unknown")),
        None if schema["additionalProperties"].is_object() => {
            mismatch(document, &schema["additionalProperties"], value)
        }
        None => None,
    })
}

#[test]
fn every_body_has_an_example_that_matches_its_schema() {
    let document = document();
    for (name, operation) in operations(&document) {
        let answers = operation["responses"].as_object().unwrap().values();
        let bodies = answers.chain([&operation["requestBody"]]).filter_map(|body| body["content"].as_object());
        for (kind, content) in bodies.flatten() {
            let example = content.get("example").unwrap_or_else(|| panic!("{name}: {kind} has no example"));
            let why = mismatch(&document, &content["schema"], example);
            assert_eq!(why, None, "{name}: {kind}: {example:#}");
        }
    }
}

#[test]
fn each_kind_of_job_has_a_schema_with_its_result() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let kinds = schemas["Job"]["discriminator"]["mapping"].as_object().unwrap();
    assert_eq!(schemas["Job"]["oneOf"].as_array().unwrap().len(), kinds.len());
    assert_eq!(kinds.keys().map(String::as_str).collect::<BTreeSet<_>>(), shared::jobs::NAMES.into_iter().collect());
    for (kind, reference) in kinds {
        let schema = document.pointer(&reference.as_str().unwrap()[1..]).unwrap();
        assert_eq!(schema["properties"]["kind"]["enum"], json!([kind]));
        let result = schema["properties"]["result"]["oneOf"][1]["$ref"].as_str().unwrap();
        assert!(result.ends_with("Result") && document.pointer(&result[1..]).is_some(), "{kind}: {result}");
    }
    let accepted = &document["paths"]["/dev/crm/leads/import"]["post"]["responses"]["202"]["content"];
    assert_eq!(accepted["application/json"]["schema"]["$ref"], "#/components/schemas/ImportLeadsJob");
}

#[tokio::test]
async fn a_document_names_its_server() {
    let servers = |document: Value| {
        let servers = document["servers"].as_array().unwrap().clone();
        servers.iter().map(|server| server["url"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let get = async |api: &Api| support::json(Client::new().get(api.url("/openapi.json")), 200).await;
    assert_eq!(servers(get(&Api::start().await).await), ["/"]);
    let public = Api::start_with(|settings| {
        settings.public_url = "https://crm.example".to_owned();
        settings.public_url_is_set = true;
    });
    assert_eq!(servers(get(&public.await).await), ["https://crm.example", "/"]);
}

#[tokio::test]
async fn the_document_is_served_without_a_key() {
    let api = Api::start().await;
    let get = || Client::new().get(api.url("/openapi.json"));
    let served = get().send().await.unwrap();
    let tag = served.headers()["etag"].clone();
    assert_eq!(body(served, 200).await, document());
    let again = get().header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_documentation_loads_nothing_from_other_hosts() {
    let api = Api::start().await;
    let page = Client::new().get(api.url("/docs")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = page.text().await.unwrap();
    let sources = page.split(['"', '\'']).filter(|text| text.ends_with(".js") || text.ends_with(".css"));
    let mut found = 0;
    for source in sources {
        let path = format!("/docs/{}", source.trim_start_matches("./"));
        let file = Client::new().get(api.url(&path)).send().await.unwrap();
        assert_eq!(file.status(), 200, "{source}");
        found += 1;
        if source.ends_with("initializer.js") {
            let settings = file.text().await.unwrap();
            assert!(settings.contains("/openapi.json") && settings.contains(r#""validatorUrl": "none""#), "{settings}");
            assert!(!settings.contains("://"), "{settings}");
        }
    }
    assert!(found >= 4 && !page.contains("://"), "{page}");
    support::json(Client::new().get(api.url("/docs/nothing.js")), 404).await;
}
