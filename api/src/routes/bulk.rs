//! `/dev/crm/{leads,customers,orders}/bulk`: changes all records that match a filter.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use shared::accounts::scopes::Scope;
use shared::bulk::{self, BulkAction, BulkChange, BulkChanged, Request};
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::crm::orders::Order;
use shared::records::schema;
use shared::values::json_schema::closed;
use utoipa::ToSchema;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{Object, RefOr};

use super::customers::refresh_for;
use crate::AppState;
use crate::extract::{JsonObject, NoQuery};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters::one_of;
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let leads = Operation::post("/leads/bulk", change::<Lead>)
        .needs(Scope::Workflows)
        .named("bulk", "Change all leads that match a filter");
    let customers = Operation::post("/customers/bulk", customers)
        .needs(Scope::Workflows)
        .named("bulk", "Change all customers that match a filter");
    let orders = Operation::post("/orders/bulk", change::<Order>)
        .needs(Scope::Workflows)
        .named("bulk", "Change all orders that match a filter");
    let nouns = [
        tagged("Leads", [described::<Lead>(leads)]),
        tagged("Customers", [described::<Customer>(customers).refers()]),
        tagged("Orders", [described::<Order>(orders).refers()]),
    ];
    nouns.into_iter().flatten().collect()
}

const ABOUT: &str = "Returns a job that changes the records that matched when the request was accepted. `delete`, `convert` \
    and changes of more than 1,000 records need `confirm`, the number of records that match: without it, the error \
    names the number (`confirm_required`, or `confirm_mismatch` for another number). A dry run needs none and reports \
    what would happen. Rejected records are listed at the job's `errors`, what was changed at its `records`. All \
    actions but `convert` can be undone. Besides `workflows`, `update`, `assign`, `restore` and `convert` need the scope \
    `records:write`, and `delete` needs `records:delete`.";

fn described<R: BulkChanged + ToSchema>(operation: Operation) -> Operation {
    operation.about(ABOUT).takes(format!("{}Bulk", R::name()), body::<R>()).accepts::<BulkChange<R>>()
}

/// The schema of the body.
fn body<R: BulkChanged>() -> RefOr<Schema> {
    let flag = || ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into()));
    // `null` is what a result has in this place if a change needs no confirmation.
    let number = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Integer, Type::Null])).minimum(Some(0));
    let again = flag().description(Some("With `enroll`: brings back leads that left the nurture sequence."));
    let words = one_of(R::ACTIONS.iter().map(|action| action.as_str()));
    let abouts = R::ACTIONS.iter().map(|action| format!("- `{}`: {}", action.as_str(), about(*action)));
    let abouts = abouts.collect::<Vec<_>>().join("\n");
    let object = ObjectBuilder::new()
        .property("filter", filter())
        .property("action", words.description(Some(abouts)))
        .property("set", set::<R>())
        .property("dry_run", flag().description(Some("Reports what would happen, and changes nothing.")))
        .property("confirm", number.description(Some("The number of records that match.")))
        .required("filter")
        .required("action");
    let object = if R::ACTIONS.contains(&BulkAction::Enroll) { object.property("again", again) } else { object };
    closed(object.examples([example::<R>()]))
}

fn about(action: BulkAction) -> &'static str {
    match action {
        BulkAction::Update => "Sets the fields in `set`, as an update of each record does.",
        BulkAction::Assign => "Sets `assigned_to` in `set`.",
        BulkAction::Delete => "Deletes the records, with what is deleted with them.",
        BulkAction::Restore => "Restores deleted records. The filters are those of the list of deleted records.",
        BulkAction::Enroll => {
            "Enrols the leads for nurture. Leads that left the sequence are rejected (`left_nurture`), unless `again` is \
             true; so are those whose status is not nurtured, or whose address is suppressed."
        }
        BulkAction::Unenroll => {
            "Takes the leads out of nurture, and cancels their waiting nurture emails. A start of nurture does not enrol them."
        }
        BulkAction::Convert => "Converts the leads to customers. `set` overrides fields of the customers.",
    }
}

fn example<R: BulkChanged>() -> Value {
    let status = R::example()["status"].clone();
    let set = match R::ACTIONS.contains(&BulkAction::Assign) {
        true => json!({ "assigned_to": "019ab3f2-7d20-7a11-9c3e-5b6f8a2d4c10" }),
        false => json!({ "notes": "Reviewed" }),
    };
    let action = if R::ACTIONS.contains(&BulkAction::Assign) { BulkAction::Assign } else { BulkAction::Update };
    json!({ "filter": { "status": status }, "action": action.as_str(), "set": set })
}

/// `"all"`, or an object of filters.
fn filter() -> Schema {
    let scalar = || {
        AnyOfBuilder::new()
            .item(Object::with_type(Type::String))
            .item(Object::with_type(Type::Number))
            .item(Object::with_type(Type::Boolean))
    };
    let value = scalar().item(ArrayBuilder::new().items(scalar()));
    let filters = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::AnyOf(value.build())))))
        .description(Some("Filters, by the names of the list's parameters."));
    let all = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["all"]));
    let about = "The filters of the list, with their values as strings, numbers, booleans, or arrays of these; `\"all\"` \
                 matches every record.";
    OneOfBuilder::new().item(all).item(filters).description(Some(about)).build().into()
}

/// The fields to set.
fn set<R: BulkChanged>() -> RefOr<Schema> {
    let mut fields = schema::update::<R>();
    if let RefOr::T(Schema::Object(fields)) = &mut fields {
        if R::ACTIONS.contains(&BulkAction::Convert) {
            // A conversion sets fields of customers.
            fields.additional_properties = None;
        }
        fields.description = Some("The fields to set, for the actions that set any.".to_owned());
    }
    fields
}

async fn customers(state: State<AppState>, caller: Caller, write: Write, query: NoQuery, body: JsonObject) -> Result {
    let request = Request::read::<Customer>(write.actor.workspace_id, body.object.clone())?;
    refresh_for(&state, write.actor.workspace_id, request.filters()).await?;
    change::<Customer>(caller, write, query, body).await
}

async fn change<R: BulkChanged>(
    caller: Caller,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let request = Arc::new(Request::read::<R>(write.actor.workspace_id, object)?);
    caller.must(request.action().needs())?;
    write
        .run(&bytes, move |connection, actor| {
            let request = request.clone();
            Box::pin(async move { Reply::accepted(&bulk::accept::<R>(connection, actor, &request).await?) })
        })
        .await
}
