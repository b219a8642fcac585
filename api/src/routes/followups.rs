//! `/dev/crm/followups`

use shared::accounts::scopes::Scope;
use shared::workflows::followups::ProcessFollowups;

use crate::extract::{NoBody, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let process = Operation::post("/followups/process", process)
        .needs(Scope::Workflows)
        .named("process", "Process follow-ups")
        .about(
            "Notifies users of the due next actions with the leads and customers assigned to them, in one email per user. \
             The result counts the `interactions` that were due: those `followed_up`, and those `skipped` by reason, which \
             stay due. Only one run is active at a time; starting another returns the active job.",
        )
        .can_run_dry("Reports in the job's `preview` who would be notified, without any changes.")
        .confirms()
        .accepts::<ProcessFollowups>();
    tagged("Follow-ups", [process])
}

async fn process(write: Write, Query(parameters): Query, _: NoBody) -> Result {
    write.start_run(ProcessFollowups::read(&parameters, true)?).await
}
