//! The requests that the product sends to receivers of webhooks.

use serde_json::json;
use shared::events::Event;
use utoipa::ToSchema;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{HttpMethod, Required, ResponseBuilder};

use super::schemas;

const ABOUT: &str = "Sent to the URL of each webhook that wants the event, and to callbacks. It follows Standard Webhooks: \
    verify the signature over the bytes of the body before you use it, and answer with 2xx within 15 seconds. Every other \
    answer, redirects included, is a failure and is retried for a day. An event arrives at least once, always with the same \
    `webhook-id` and body, and in no promised order.";

/// The section `webhooks` of the document.
pub(super) fn paths() -> Paths {
    // Generators of clients leave out what is internal: openapi-generator would write one that does not compile.
    let not_of_clients = ExtensionsBuilder::new().add("x-internal", true).build();
    let operation = OperationBuilder::new()
        .extensions(Some(not_of_clients))
        .operation_id(Some("webhooks.event"))
        .tag("Webhooks")
        .summary(Some("An event"))
        .description(Some(ABOUT))
        .parameters(Some([
            header("webhook-id", "The id of the event.", "evt_019ab3f26b1e7c3a9f523d8c1e0a7b44"),
            header("webhook-timestamp", "The time of the attempt, in seconds since 1970.", "1764495000"),
            header(
                "webhook-signature",
                "Signatures, separated by spaces: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.",
                "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            ),
        ]))
        .request_body(Some(schemas::body("application/json", schemas::reference(&Event::name()))))
        .response("2XX", ResponseBuilder::new().description("The receiver has stored the event."))
        .response("default", ResponseBuilder::new().description("The attempt failed, and is repeated later."))
        .securities(Some([]));
    let mut paths = Paths::new();
    paths.add_path_operation("event", vec![HttpMethod::Post], operation.build());
    paths
}

fn header(name: &str, about: &str, example: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(json!(example)))
        .build()
}
