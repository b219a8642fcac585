//! `/dev/crm/settings`

use axum::extract::State;
use axum::response::IntoResponse;
use shared::accounts::settings::{self, Settings};

use crate::AppState;
use crate::extract::{JsonObject, NoQuery};
use crate::http::auth::Caller;
use crate::openapi::operations::{Operation, tagged};
use crate::respond::write::Write;
use crate::respond::{Reply, Result};

pub(crate) fn operations() -> Vec<Operation> {
    let settings = [
        Operation::get("/settings", read)
            .named("getSettings", "Get the workspace's settings")
            .about("What was not set is as the server's defaults are.")
            .reads::<Settings>(),
        Operation::put("/settings", update)
            .named("updateSettings", "Change the workspace's settings")
            .about(
                "Only the fields that are named change; of `templates`, only those parts that are named. `null` sets \
                 the default. `nurture_sequence` is replaced as a whole: a step that is sent with its `id` keeps it, \
                 and a lead gets each step once, ever. A template that cannot be read, or names a variable that its \
                 mails do not have, is refused with its line.",
            )
            .takes("SettingsUpdate".to_owned(), settings::update_schema())
            .returns_record::<Settings>(200, "All settings, changed."),
    ];
    tagged("Settings", settings)
}

async fn read(State(state): State<AppState>, caller: Caller, _: NoQuery) -> Result {
    let settings = settings::get(&mut *state.connection().await?, caller.workspace_id).await?;
    Ok(Reply::record(&settings)?.into_response())
}

async fn update(
    State(state): State<AppState>,
    write: Write,
    _: NoQuery,
    JsonObject { object, bytes }: JsonObject,
) -> Result {
    let condition = write.condition.clone();
    write
        .run(&bytes, move |connection, actor| {
            let (state, object, condition) = (state.clone(), object.clone(), condition.clone());
            Box::pin(async move {
                let mail = &state.settings.mail;
                Reply::record(&settings::update(connection, actor.workspace_id, object, &condition, mail).await?)
            })
        })
        .await
}
