//! `/dev/crm/customers`

use shared::customers::Customer;
use shared::interactions::CustomerInteraction;

use super::records;
use crate::operations::{Operation, tagged};

const INTERACTIONS: &str = "/customers/{customerId}/interactions";
const INTERACTION: &str = "/customers/{customerId}/interactions/{interactionId}";

pub(crate) fn operations() -> Vec<Operation> {
    let customers = [
        Operation::get("/customers", records::list::<Customer>)
            .named("listCustomers", "List customers")
            .lists_records::<Customer>(),
        Operation::post("/customers", records::create::<Customer>)
            .named("createCustomer", "Create a customer")
            .creates::<Customer>(),
        Operation::get("/customers/export", records::export::<Customer>)
            .named("exportCustomers", "Export customers as CSV")
            .exports::<Customer>(),
        Operation::post("/customers/batch", records::batch::<Customer>)
            .named("writeCustomers", "Create and update many customers")
            .writes_many::<Customer>(),
        Operation::get("/customers/{customerId}", records::read::<Customer>)
            .named("getCustomer", "Get a customer")
            .reads::<Customer>(),
        Operation::put("/customers/{customerId}", records::update::<Customer>)
            .named("updateCustomer", "Update a customer")
            .updates::<Customer>(),
        Operation::delete("/customers/{customerId}", records::delete::<Customer>)
            .named("deleteCustomer", "Delete a customer")
            .about(
                "Its interactions, orders and feedback go with it, and its lead stays. It can be restored for 30 days.",
            )
            .deletes(),
        Operation::get("/customers/{customerId}/history", records::history::<Customer>)
            .named("getCustomerHistory", "List the changes of a customer")
            .tells_history(),
        Operation::post("/customers/{customerId}/restore", records::restore::<Customer>)
            .named("restoreCustomer", "Restore a deleted customer")
            .returns_record::<Customer>(200, "The customer, with what was deleted along with it."),
    ];
    let interactions = [
        Operation::get(INTERACTIONS, records::list::<CustomerInteraction>)
            .named("listCustomerInteractions", "List the interactions with a customer")
            .lists_records::<CustomerInteraction>(),
        Operation::post(INTERACTIONS, records::create::<CustomerInteraction>)
            .named("createCustomerInteraction", "Record an interaction with a customer")
            .creates::<CustomerInteraction>(),
        Operation::get(INTERACTION, records::read::<CustomerInteraction>)
            .named("getCustomerInteraction", "Get an interaction with a customer")
            .reads::<CustomerInteraction>(),
        Operation::put(INTERACTION, records::update::<CustomerInteraction>)
            .named("updateCustomerInteraction", "Update an interaction with a customer")
            .updates::<CustomerInteraction>(),
        Operation::delete(INTERACTION, records::delete::<CustomerInteraction>)
            .named("deleteCustomerInteraction", "Delete an interaction with a customer")
            .deletes(),
    ];
    tagged("Customers", customers).into_iter().chain(tagged("Interactions", interactions)).collect()
}
