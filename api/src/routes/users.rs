//! `/dev/crm/users`

use shared::accounts::scopes::Scope;
use shared::accounts::users::User;

use super::records;
use crate::openapi::operations::{Operation, tagged};

pub(crate) fn operations() -> Vec<Operation> {
    let users = [
        Operation::get("/users", records::list::<User>)
            .needs(Scope::Settings)
            .named("list", "List users")
            .lists_records::<User>(),
        Operation::post("/users", records::create::<User>)
            .needs(Scope::Settings)
            .named("create", "Create a user")
            .creates::<User>(),
        Operation::get("/users/{userId}", records::read::<User>)
            .needs(Scope::Settings)
            .named("get", "Get a user")
            .reads::<User>(),
        Operation::put("/users/{userId}", records::update::<User>)
            .needs(Scope::Settings)
            .named("update", "Update a user")
            .updates::<User>(),
        Operation::delete("/users/{userId}", records::delete::<User>)
            .needs(Scope::Settings)
            .named("delete", "Delete a user")
            .about("Records assigned to the user are not changed. The user can be restored for 30 days.")
            .deletes(),
        Operation::post("/users/{userId}/restore", records::restore::<User>)
            .needs(Scope::Settings)
            .named("restore", "Restore a deleted user")
            .restores::<User>("The restored user."),
    ];
    tagged("Users", users)
}
