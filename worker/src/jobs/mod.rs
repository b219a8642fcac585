//! The handlers of all kinds of jobs. Kinds that run page by page share one loop; each other kind
//! has a file.

mod find_themes;
mod import;
mod nightly;
pub(crate) mod pages;
mod undo_bulk;
mod undo_import;

use crate::queue::job::Tasks;

macro_rules! tasks {
    (runs: [$($run:ty),+ $(,)?], handlers: [$($handler:ty),+ $(,)?]) => {
        Tasks::new()$(.with_pages::<$run>())+$(.with::<$handler>())+
    };
}

/// All kinds.
pub fn all() -> Tasks {
    shared::job_kinds!(tasks)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::jobs::KINDS;
    use shared::queue::QUEUES;

    use super::all;

    #[test]
    fn workers_run_what_the_api_offers() {
        let run: BTreeMap<_, _> = all().iter().map(|(name, kind)| (name, kind.queue)).collect();
        let offered: BTreeMap<_, _> = KINDS.iter().map(|kind| (kind.name, kind.queue)).collect();
        assert_eq!(run, offered);
        assert_eq!(offered.len(), KINDS.len(), "two kinds have one name");
        assert!(KINDS.iter().all(|kind| QUEUES.contains(&kind.queue)), "{offered:?}");
    }
}
