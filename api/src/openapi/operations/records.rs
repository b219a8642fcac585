//! Descriptions of the operations that every type of record has.

use serde_json::json;
use shared::error::Reason;
use shared::records::csv::{CsvRows, Layout};
use shared::records::history::Change;
use shared::records::schema;
use shared::records::{MAX_BATCH, Record};
use shared::values::json_schema::{Shape, closed};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, ResponseBuilder};
use uuid::Uuid;

use super::{CSV, JSON, Operation};
use crate::openapi::{headers, parameters, problems, schemas};

impl Operation {
    /// Returns a list of records.
    pub fn lists_records<R: Record + ToSchema>(self) -> Self {
        let described = self.lists::<R>(const { &R::LIST });
        if R::DELETED.is_some() { described.with([parameters::deleted()]) } else { described }
    }

    /// Returns a file of all records that match the list's filters.
    pub fn exports<R: Record>(self) -> Self {
        let response = ResponseBuilder::new()
            .description("A file that can be imported again.")
            .content(CSV, schemas::content_like(schemas::text(), json!(csv_of::<R>())))
            .content("application/jsonl", schemas::content(schemas::text()))
            .header_ref("Content-Disposition", headers::reference("Content-Disposition"));
        let described = Self { exports: true, ..self };
        described.with(parameters::of_export(const { &R::EXPORT })).answers(200, response).about_usually(
            "Streams all that match the filters. Cells that a spreadsheet would run as a formula are guarded with an \
             apostrophe, which an import removes.",
        )
    }

    /// Returns a record with its `ETag`.
    pub fn returns_record<R: ToSchema>(self, status: u16, description: &'static str) -> Self {
        let mut response = ResponseBuilder::new()
            .description(description)
            .content(JSON, schemas::content(schemas::reference(&R::name())))
            .header_ref("ETag", headers::reference("ETag"));
        if status == 201 {
            response = response.header_ref("Location", headers::reference("Location"));
        }
        self.answers(status, response).knows(schemas::of::<R>())
    }

    /// Returns a record, or 304 if the client has it.
    pub fn reads<R: ToSchema>(self) -> Self {
        let known = ResponseBuilder::new()
            .description("The record still has the `ETag` in `If-None-Match`.")
            .header_ref("ETag", headers::reference("ETag"));
        let described = self.with([parameters::if_none_match()]).returns_record::<R>(200, "The record.");
        described.answers(304, known).about_usually(
            "Returns all fields; those without a value are `null`. With `If-None-Match`, returns 304 if nothing changed.",
        )
    }

    /// Creates a record from the body.
    pub fn creates<R: Record + ToSchema>(self) -> Self {
        let described = self.takes(format!("{}Create", R::name()), schema::create::<R>());
        let described = described.writes::<R>().returns_record::<R>(201, "The created record.").about_usually(
            "Creates a record from the fields in the body; others get their defaults. Returns the whole record. If the \
             body is invalid, all its faults are reported at once.",
        );
        match R::MATCHED_BY {
            [] => described,
            keys => {
                let described = described.with([parameters::on_conflict(keys)]);
                described.returns_record::<R>(200, "The record that was updated, with `on_conflict=update`.")
            }
        }
    }

    /// Updates a record from the body.
    pub fn updates<R: Record + ToSchema>(self) -> Self {
        let described = self.takes(format!("{}Update", R::name()), schema::update::<R>());
        described.writes::<R>().returns_record::<R>(200, "The updated record, with all fields.").about_usually(
            "Changes only the fields in the body; `null` clears an optional field. Fields that already have the given \
             value are ignored, so a record can be sent back as it was read. With `If-Match`, writes only if nobody else \
             has changed the record.",
        )
    }

    /// Adds the errors for unknown references and taken unique values.
    fn writes<R: Record>(self) -> Self {
        let described = if R::REFERENCES.is_empty() { self } else { self.refers() };
        if R::UNIQUE.is_empty() { described } else { described.conflicts([Reason::Taken]) }
    }

    /// Restores a deleted record.
    pub fn restores<R: Record + ToSchema>(self, description: &'static str) -> Self {
        self.conflicts([Reason::Taken, Reason::NotDeleted]).returns_record::<R>(200, description).about_usually(
            "Restores the record within 30 days of its deletion. Returns 409 if its email is taken by now. Links to \
             records that no longer exist, or that are linked to another record, are not restored.",
        )
    }

    /// Deletes a record.
    pub fn deletes(self) -> Self {
        let response = ResponseBuilder::new().description("The record was deleted.");
        self.answers(204, response).about_usually("Deletes the record. Deleting it again returns 404.")
    }

    /// Creates and updates the records in the body.
    pub fn writes_many<R: Record + ToSchema>(self) -> Self {
        let [create, update, batch, result, results] =
            ["Create", "BatchUpdate", "Batch", "BatchResult", "BatchResults"]
                .map(|part| format!("{}{part}", R::name()));
        let response = ResponseBuilder::new()
            .description("The result of each item, in the order of the request.")
            .content(JSON, schemas::content(schemas::reference(&results)));
        let described = match R::MATCHED_BY {
            [] => self,
            keys => self.with([parameters::on_conflict(keys)]),
        };
        described
            .takes(batch, batch_of::<R>(&create, &update))
            .knows([(create, schema::create::<R>()), (update, batch_update::<R>())])
            .answers(200, response)
            .knows([(results, batch_results(&result)), (result, batch_result(&R::name()))])
            .knows(schemas::of::<R>())
            .knows(problems::schemas())
            .about_usually(
                "Creates a record for each item without an `id`, and updates the record of each item with one. All valid \
                 items are written in one transaction; a rejected item does not affect the others.",
            )
    }

    /// Returns the changes of a record.
    pub fn lists_history(self) -> Self {
        let response = ResponseBuilder::new()
            .description(
                "The changes, newest first; the last one is the creation. Fewer than `limit` are returned if they are large; `Link` leads to the others.",
            )
            .content(JSON, schemas::content(schemas::array(&Change::name())))
            .header_ref("Link", headers::reference("Link"))
            .header_ref("X-Next-Cursor", headers::reference("X-Next-Cursor"));
        let [limit, cursor, _] = parameters::of_page();
        self.with([limit, cursor]).answers(200, response).knows(schemas::of::<Change>()).about_usually(
            "Lists what was changed, by whom, in which request and when, also after the record was deleted.",
        )
    }
}

/// The example of a record as a CSV file.
fn csv_of<R: Record>() -> String {
    let mut rows = CsvRows::with_capacity(1024);
    let layout = Layout::new::<R>(None, Vec::new());
    layout.write_header(&mut rows);
    if let Some(record) = schema::example_record::<R>() {
        layout.write(&mut rows, &record);
    }
    String::from_utf8(rows.into_bytes().unwrap_or_default()).unwrap_or_default()
}

/// Items to create, and items with an id, which update its record.
fn batch_of<R: Record>(create: &str, update: &str) -> RefOr<Schema> {
    let item = AnyOfBuilder::new().item(schemas::reference(create)).item(schemas::reference(update));
    let items = ArrayBuilder::new().items(item).min_items(Some(1)).max_items(Some(MAX_BATCH));
    let body = ObjectBuilder::new().property("items", items).required("items");
    closed(body.examples([json!({ "items": [R::example()] })]))
}

fn batch_update<R: Record>() -> RefOr<Schema> {
    let mut change = schema::update::<R>();
    if let RefOr::T(Schema::Object(change)) = &mut change {
        change.properties.insert("id".to_owned(), Uuid::shape().into());
        change.required.push("id".to_owned());
        change.description = Some("An update of the record with this id.".to_owned());
    }
    change
}

/// The result of each item, in the order of the request.
fn batch_results(result: &str) -> RefOr<Schema> {
    let about = "The results, in the order of the request. A rejected item does not affect the others.";
    let results = ArrayBuilder::new().items(schemas::reference(result)).description(Some(about));
    ObjectBuilder::new().property("results", results).required("results").into()
}

fn batch_result(record: &str) -> RefOr<Schema> {
    let status = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([200, 201, 400, 404, 409]));
    ObjectBuilder::new()
        .property("status", status.description(Some("The status that the item would have had on its own.")))
        .property("record", schemas::reference(record))
        .property("error", schemas::reference(problems::NAME))
        .required("status")
        .into()
}
