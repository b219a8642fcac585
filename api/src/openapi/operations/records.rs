//! What is said of the operations that every kind of record has.

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
    /// It lists records.
    pub fn lists_records<R: Record + ToSchema>(self) -> Self {
        self.lists::<R>(const { &R::LIST })
    }

    /// It makes a file of all records that the list's filters leave.
    pub fn exports<R: Record>(self) -> Self {
        let response = ResponseBuilder::new()
            .description("The file, which imports again to the same records.")
            .content(CSV, schemas::content(schemas::text()))
            .header_ref("Content-Disposition", headers::reference("Content-Disposition"));
        self.with(parameters::of_list(const { &R::LIST })).answers(200, response)
    }

    /// It answers with a record, which has a tag.
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

    /// It reads a record, unless the caller has it.
    pub fn reads<R: ToSchema>(self) -> Self {
        let known = ResponseBuilder::new()
            .description("It is what `If-None-Match` names.")
            .header_ref("ETag", headers::reference("ETag"));
        self.with([parameters::if_none_match()]).returns_record::<R>(200, "The record.").answers(304, known)
    }

    /// Its body makes a record.
    pub fn creates<R: Record + ToSchema>(self) -> Self {
        let described = self.takes(format!("{}Create", R::name()), schema::create::<R>());
        described.writes::<R>().returns_record::<R>(201, "Made.")
    }

    /// Its body changes a record.
    pub fn updates<R: Record + ToSchema>(self) -> Self {
        let described = self.takes(format!("{}Update", R::name()), schema::update::<R>());
        described.writes::<R>().returns_record::<R>(200, "The whole record, changed.")
    }

    /// It writes a record, which others may stand in the way of.
    fn writes<R: Record>(self) -> Self {
        let described = if R::REFERENCES.is_empty() { self } else { self.refers() };
        if R::UNIQUE.is_empty() { described } else { described.conflicts([Reason::Taken]) }
    }

    /// It brings a deleted record back.
    pub fn restores<R: Record + ToSchema>(self, description: &'static str) -> Self {
        self.conflicts([Reason::Taken, Reason::NotDeleted]).returns_record::<R>(200, description)
    }

    /// It deletes a record.
    pub fn deletes(self) -> Self {
        self.answers(204, ResponseBuilder::new().description("Deleted."))
    }

    /// Its body makes and changes many records.
    pub fn writes_many<R: Record + ToSchema>(self) -> Self {
        let create = format!("{}Create", R::name());
        self.takes(format!("{}Batch", R::name()), batch::<R>(&create))
            .knows([(create, schema::create::<R>())])
            .answers(200, results(&R::name()))
            .knows(schemas::of::<R>())
    }

    /// It lists the changes of a record.
    pub fn tells_history(self) -> Self {
        let response = ResponseBuilder::new()
            .description(
                "The changes, newest first: fewer than `limit` if they are large, with a `Link` to the others.",
            )
            .content(JSON, schemas::content(schemas::array(&Change::name())))
            .header_ref("Link", headers::reference("Link"));
        let [limit, cursor, _] = parameters::of_page();
        self.with([limit, cursor]).answers(200, response).knows(schemas::of::<Change>())
    }
}

/// Items to make, and items to change, which are those with an id.
fn batch<R: Record>(create: &str) -> RefOr<Schema> {
    let mut change = schema::update::<R>();
    if let RefOr::T(Schema::Object(change)) = &mut change {
        change.properties.insert("id".to_owned(), Uuid::shape().into());
        change.required.push("id".to_owned());
        change.description = Some("A change of the record with this id.".to_owned());
    }
    let item = AnyOfBuilder::new().item(schemas::reference(create)).item(change);
    let items = ArrayBuilder::new().items(item).min_items(Some(1)).max_items(Some(MAX_BATCH));
    let body = ObjectBuilder::new().property("items", items).required("items");
    closed(body.examples([json!({ "items": [R::example()] })]))
}

/// What became of each item, in their order.
fn results(record: &str) -> ResponseBuilder {
    let status = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([200, 201, 400, 404, 409]));
    let result = ObjectBuilder::new()
        .property("status", status.description(Some("As if the item had been sent alone.")))
        .property("record", schemas::reference(record))
        .property("error", schemas::reference(problems::NAME))
        .required("status");
    let results = ArrayBuilder::new().items(result);
    let body = ObjectBuilder::new().property("results", results).required("results");
    ResponseBuilder::new()
        .description("What became of each item, in their order. An item that is refused does not keep the others back.")
        .content(JSON, schemas::content(body.into()))
}
