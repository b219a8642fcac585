//! `/dev/crm/leads/nurture`

use shared::workflows::nurture::NurtureLeads;

use crate::extract::{NoBody, RunParameters};
use crate::openapi::operations::{Operation, tagged};
use crate::respond::Result;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let nurture = Operation::post("/leads/nurture/start", start)
        .named("startNurture", "Send nurture emails")
        .about(
            "Sends the next email of the workspace's sequence to each lead that is `new`, `contacted` or `qualified` and \
             whose next step is due. The result counts the `leads` considered: those that were `sent` an email, those \
             `waiting` for their next step, and those `skipped` by reason. Only one run is active at a time; starting \
             another returns the active job.",
        )
        .can_run_dry("Reports in the job's `preview` what would happen to the first 1,000 leads, without any changes.")
        .confirms()
        .accepts::<NurtureLeads>();
    tagged("Leads", [nurture])
}

async fn start(write: Write, RunParameters { dry_run, start }: RunParameters, _: NoBody) -> Result {
    write.start_run(NurtureLeads { dry_run, start }).await
}
