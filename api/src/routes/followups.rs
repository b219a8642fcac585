//! `/dev/crm/followups`

use shared::workflows::followups::ProcessFollowups;

use crate::extract::{DryRun, NoBody};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let process = Operation::post("/followups/process", process)
        .named("processFollowups", "Process follow-ups")
        .about(
            "Whoever looks after a lead or a customer is told which next actions are due: one mail to each, in which all \
             of theirs are counted. The result says how many `interactions` were due: those `followed_up`, and those \
             `skipped`, by the reason, which stay due. One run is under way at a time: asked again, the answer is that job.",
        )
        .can_run_dry("Tells in the job's `preview` who would be told, and writes nothing.")
        .accepts();
    tagged("Interactions", [process])
}

async fn process(write: Write, DryRun(dry_run): DryRun, _: NoBody) -> Result {
    write.start_run(ProcessFollowups { dry_run }).await
}
