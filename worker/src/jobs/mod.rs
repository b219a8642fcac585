//! Every kind of job, one file each.

pub(crate) mod import;
use shared::imports::{ImportCustomers, ImportLeads, UndoImport};
use shared::insight::health::SnapshotHealth;
use shared::insight::themes::FindThemes;
use shared::schedule::nightly::{CleanUp, Nightly};
use shared::workflows::feedback_reminders::RemindFeedback;
use shared::workflows::feedback_requests::RequestFeedback;
use shared::workflows::followups::ProcessFollowups;
use shared::workflows::nurture::NurtureLeads;

use crate::queue::job::Tasks;

mod clean_up;
mod find_themes;
mod import_customers;
mod import_leads;
mod nightly;
mod nurture_leads;
mod process_followups;
mod remind_feedback;
mod request_feedback;
mod snapshot_health;
mod undo_import;

/// All kinds.
pub fn all() -> Tasks {
    Tasks::new()
        .with::<ImportLeads>()
        .with::<ImportCustomers>()
        .with::<UndoImport>()
        .with::<NurtureLeads>()
        .with::<ProcessFollowups>()
        .with::<Nightly>()
        .with::<CleanUp>()
        .with::<RequestFeedback>()
        .with::<RemindFeedback>()
        .with::<SnapshotHealth>()
        .with::<FindThemes>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::queue;

    use super::all;

    #[test]
    fn workers_run_what_the_api_offers() {
        let run: BTreeMap<_, _> = all().iter().map(|(name, kind)| (name, kind.queue)).collect();
        let offered: BTreeMap<_, _> = queue::KINDS.iter().copied().collect();
        assert_eq!(run, offered);
        assert_eq!(offered.len(), queue::KINDS.len(), "a kind is there twice");
    }
}
