//! Schemas of jobs: one for each kind, with the result of that kind, and one for any job.

use serde_json::{Value, json};
use shared::jobs::{KINDS, Kind};
use shared::queue::{Job, Payload};
use utoipa::openapi::schema::{Discriminator, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::schemas;

/// The name of the schema of any job.
pub(crate) const ANY: &str = "Job";

/// The name of the schema of a kind's jobs: `ImportLeadsJob` for `import_leads`.
pub(crate) fn name_of<P: Payload>() -> String {
    name(P::KIND)
}

fn name(kind: &str) -> String {
    let words = kind.split('_').map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
    words.collect::<String>() + ANY
}

/// All schemas of jobs.
pub(crate) fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut all = Vec::new();
    Job::schemas(&mut all);
    let mut all = schemas::complete(all);
    let mut any = OneOfBuilder::new().description(Some("A job; its `kind` decides what its `result` contains."));
    let mut kinds = Discriminator::new("kind");
    for kind in KINDS {
        let (result, schemas) = (kind.result)();
        all.extend(schemas::complete(schemas));
        let name = name(kind.name);
        any = any.item(schemas::reference(&name));
        kinds.mapping.insert(kind.name.to_owned(), format!("#/components/schemas/{name}"));
        all.push((name, of_kind(kind, &result).into()));
    }
    all.push((ANY.to_owned(), any.discriminator(Some(kinds)).into()));
    all
}

/// The schema of a job of one kind.
fn of_kind(kind: &Kind, result: &str) -> Object {
    let mut object = match <Job as PartialSchema>::schema() {
        RefOr::T(Schema::Object(object)) => object,
        // The declaration of `Job` rules this out.
        _ => Object::default(),
    };
    let about = "The result: complete once the job succeeded, and the work done so far until then.";
    let result = OneOfBuilder::new()
        .item(Object::with_type(Type::Null))
        .item(schemas::reference(result))
        .description(Some(about));
    let word = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([kind.name]))
        .description(Some("The kind of job."));
    object.description = Some(format!("A job of the kind `{}`.", kind.name));
    object.properties.insert("kind".to_owned(), word.into());
    object.properties.insert("result".to_owned(), result.into());
    object.required = object.properties.keys().cloned().collect();
    object.examples = vec![example(kind.name)];
    object
}

/// A job that was accepted a moment ago.
fn example(kind: &str) -> Value {
    json!({
        "id": "019ab3f2-6b1e-7c3a-9f52-3d8c1e0a7b44", "kind": kind, "status": "queued",
        "progress": { "done": 0, "total": null }, "result": null, "error": null, "retry_at": null, "attempt": 0,
        "created_at": "2026-01-15T10:00:00Z", "started_at": null, "finished_at": null, "subject": null
    })
}
