//! The dry run of a file, and the button that imports it.

use maud::{Markup, html};
use shared::accounts::scopes::Scope;
use uuid::Uuid;

use super::kinds::Kind;
use super::{UPLOADS, options};
use crate::console::forms::{Fields, steady_form};
use crate::console::pages::jobs::job::Job;
use crate::console::pages::jobs::{result, rows};
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// What a dry run found.
pub(super) async fn part(visit: &Visit, job: &str, upload: Uuid, kind: &Kind, fields: &Fields) -> Result<Markup> {
    let job: Job = visit.crm.get(&format!("/jobs/{}", path_part(job))).await?;
    let rejected = if visit.may(Scope::RecordsRead) {
        rows::rejected(visit, &job).await?
    } else {
        html! {}
    };
    Ok(html! {
        (parts::facts([("Status", parts::badge(&job.status)), ("Progress", job.progress())]))
        @if let Some(error) = &job.error { pre { (error) } }
        @if job.status == "succeeded" && job.is_dry_run() { (import_form(visit, &job, upload, kind, fields)) }
        (result::show(visit, &job))
        (rejected)
    })
}

/// A text as one part of a path.
fn path_part(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

fn import_form(visit: &Visit, job: &Job, upload: Uuid, kind: &Kind, fields: &Fields) -> Markup {
    let (created, updated) = (job.count("created"), job.count("updated"));
    let content = html! {
        (options::hidden(fields, kind))
        button.primary type="submit" { "Import " (parts::count(created + updated)) " " (kind.title.to_lowercase()) }
        p.hint {
            "Creates " (parts::count(created)) ", updates " (parts::count(updated)) ", skips "
            (parts::count(job.count("skipped"))) " and rejects " (parts::count(job.count("failed")))
            ". You can undo it afterwards."
        }
    };
    let form = steady_form(visit, &format!("{UPLOADS}/{upload}"), &format!("import-{}", job.id), &content);
    html! { div.spaced { (form) } }
}
