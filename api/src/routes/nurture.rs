//! `/dev/crm/leads/nurture`

use shared::workflows::nurture::NurtureLeads;

use crate::extract::{DryRun, NoBody};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let nurture = Operation::post("/leads/nurture/start", start)
        .named("startNurture", "Nurture leads")
        .about(
            "Each lead that is `new`, `contacted` or `qualified` and whose next step of the workspace's sequence is due \
             gets its mail. The result says how many `leads` were looked at: those `sent` a mail, those `waiting` for their \
             next step, and those `skipped`, by the reason. One run is under way at a time: asked again, the answer is that job.",
        )
        .can_run_dry("Tells in the job's `preview` what would happen to the first 1,000 leads, and writes nothing.")
        .accepts();
    tagged("Leads", [nurture])
}

async fn start(write: Write, DryRun(dry_run): DryRun, _: NoBody) -> Result {
    write.start_run(NurtureLeads { dry_run }).await
}
