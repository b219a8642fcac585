//! Descriptions of the operations that every type of record has.

use serde_json::json;
use shared::error::Reason;
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

    /// Returns a CSV file of all records that match the list's filters.
    pub fn exports<R: Record>(self) -> Self {
        let response = ResponseBuilder::new()
            .description("A CSV file that can be imported again.")
            .content(CSV, schemas::content(schemas::text()))
            .header_ref("Content-Disposition", headers::reference("Content-Disposition"));
        self.with(parameters::of_export(const { &R::LIST })).answers(200, response)
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
        self.with([parameters::if_none_match()]).returns_record::<R>(200, "The record.").answers(304, known)
    }

    /// Creates a record from the body.
    pub fn creates<R: Record + ToSchema>(self) -> Self {
        let described = self.takes(format!("{}Create", R::name()), schema::create::<R>());
        let described = described.writes::<R>().returns_record::<R>(201, "The created record.");
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
        described.writes::<R>().returns_record::<R>(200, "The updated record, with all fields.")
    }

    /// Adds the errors for unknown references and taken unique values.
    fn writes<R: Record>(self) -> Self {
        let described = if R::REFERENCES.is_empty() { self } else { self.refers() };
        if R::UNIQUE.is_empty() { described } else { described.conflicts([Reason::Taken]) }
    }

    /// Restores a deleted record.
    pub fn restores<R: Record + ToSchema>(self, description: &'static str) -> Self {
        self.conflicts([Reason::Taken, Reason::NotDeleted]).returns_record::<R>(200, description)
    }

    /// Deletes a record.
    pub fn deletes(self) -> Self {
        self.answers(204, ResponseBuilder::new().description("The record was deleted."))
    }

    /// Creates and updates the records in the body.
    pub fn writes_many<R: Record + ToSchema>(self) -> Self {
        let create = format!("{}Create", R::name());
        let described = match R::MATCHED_BY {
            [] => self,
            keys => self.with([parameters::on_conflict(keys)]),
        };
        described
            .takes(format!("{}Batch", R::name()), batch::<R>(&create))
            .knows([(create, schema::create::<R>())])
            .answers(200, results(&R::name()))
            .knows(schemas::of::<R>())
    }

    /// Returns the changes of a record.
    pub fn lists_history(self) -> Self {
        let response = ResponseBuilder::new()
            .description(
                "The changes, newest first; the last one is the creation. Fewer than `limit` are returned if they are large; `Link` leads to the others.",
            )
            .content(JSON, schemas::content(schemas::array(&Change::name())))
            .header_ref("Link", headers::reference("Link"));
        let [limit, cursor, _] = parameters::of_page();
        self.with([limit, cursor]).answers(200, response).knows(schemas::of::<Change>())
    }
}

/// Items to create, and items with an id, which update its record.
fn batch<R: Record>(create: &str) -> RefOr<Schema> {
    let mut change = schema::update::<R>();
    if let RefOr::T(Schema::Object(change)) = &mut change {
        change.properties.insert("id".to_owned(), Uuid::shape().into());
        change.required.push("id".to_owned());
        change.description = Some("An update of the record with this id.".to_owned());
    }
    let item = AnyOfBuilder::new().item(schemas::reference(create)).item(change);
    let items = ArrayBuilder::new().items(item).min_items(Some(1)).max_items(Some(MAX_BATCH));
    let body = ObjectBuilder::new().property("items", items).required("items");
    closed(body.examples([json!({ "items": [R::example()] })]))
}

/// The result of each item, in the order of the request.
fn results(record: &str) -> ResponseBuilder {
    let status = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([200, 201, 400, 404, 409]));
    let result = ObjectBuilder::new()
        .property("status", status.description(Some("The status that the item would have had on its own.")))
        .property("record", schemas::reference(record))
        .property("error", schemas::reference(problems::NAME))
        .required("status");
    let results = ArrayBuilder::new().items(result);
    let body = ObjectBuilder::new().property("results", results).required("results");
    ResponseBuilder::new()
        .description(
            "The result of each item, in the order of the request. A rejected item does not affect the others.",
        )
        .content(JSON, schemas::content(body.into()))
}
