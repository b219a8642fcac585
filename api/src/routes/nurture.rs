//! `/dev/crm/leads/nurture` and `/dev/crm/leads/{leadId}/nurture`

use shared::accounts::scopes::Scope;
use shared::bulk::Enrolment;
use shared::crm::leads::{self, Lead};
use shared::error::Reason;
use shared::records::Record;
use shared::workflows::nurture::NurtureLeads;
use uuid::Uuid;

use crate::extract::{NoBody, NoQuery, Path, Query};
use crate::openapi::operations::{Operation, tagged};
use crate::openapi::parameters;
use crate::respond::Result;
use crate::respond::reply::Reply;
use crate::respond::write::Write;

pub(crate) fn operations() -> Vec<Operation> {
    let start = Operation::post("/leads/nurture/start", start)
        .needs(Scope::Workflows)
        .named("startNurture", "Enrol leads and send nurture emails")
        .about(
            "Enrols the eligible leads and sends the next email of the workspace's sequence to each enrolled lead whose \
             next step is due. Filters, those of the list of leads, restrict both to the leads that match. Eligible are \
             leads that are `new`, `contacted` or `qualified`, have never left the sequence, and whose address is not \
             suppressed and has not bounced. The result counts the `leads` considered: those that were `sent` an email, \
             those `waiting` for their next step, and those `skipped` by reason; `enrolled` counts those that the run has \
             enrolled. A start with the same parameters as an active one returns that job; any other begins when the runs \
             before it have ended.",
        )
        .can_run_dry("Reports in the job's `preview` what would happen to the first 1,000 leads, without any changes.")
        .confirms()
        .with(parameters::of_filters(const { &Lead::LIST }))
        .accepts::<NurtureLeads>();
    let enroll = Operation::post("/leads/{leadId}/nurture/enroll", enroll)
        .needs(Scope::Workflows)
        .shows_records(Scope::RecordsRead)
        .named("enroll", "Enrol a lead for nurture")
        .about(
            "Enrols the lead from now on, even if it has left the sequence: it continues with the step after the last one \
             that it received. An enrolled lead stays as it is.",
        )
        .with([parameters::if_match()])
        .problems([412])
        .conflicts([Reason::NotNurtured, Reason::Suppressed])
        .returns_record::<Lead>(200, "The enrolled lead.");
    let unenroll = Operation::post("/leads/{leadId}/nurture/unenroll", unenroll)
        .needs(Scope::Workflows)
        .shows_records(Scope::RecordsRead)
        .named("unenroll", "Take a lead out of nurture")
        .about(
            "The lead gets no nurture emails any more: waiting ones are cancelled, and a start of nurture does not enrol \
             it. A lead that has left the sequence stays as it is.",
        )
        .with([parameters::if_match()])
        .problems([412])
        .returns_record::<Lead>(200, "The lead.");
    tagged("Leads", [start, enroll, unenroll])
}

async fn start(write: Write, Query(parameters): Query, _: NoBody) -> Result {
    let run = NurtureLeads::read(write.actor.workspace_id, parameters, true)?;
    write.start_run(run).await
}

async fn enroll(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    request(id, write, Enrolment::Enroll { again: true }).await
}

async fn unenroll(Path(id): Path, write: Write, _: NoQuery, _: NoBody) -> Result {
    request(id, write, Enrolment::Unenroll).await
}

async fn request(id: Uuid, write: Write, enrolment: Enrolment) -> Result {
    let condition = write.condition.clone();
    write
        .run(&[], move |connection, actor| {
            let condition = condition.clone();
            Box::pin(async move {
                Reply::record(&leads::request_enrolment(connection, actor, id, enrolment, &condition).await?)
            })
        })
        .await
}
