//! Takes an import back, page by page.

use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::imports::{self, Importable, UndoImport};
use shared::queue::{self, Progress};

use crate::queue::job::{Done, Running, Stop, Task};

impl Task for UndoImport {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        match self.kind.as_str() {
            "import_leads" => walk::<Lead>(job, &self).await,
            "import_customers" => walk::<Customer>(job, &self).await,
            kind => Err(Stop::Fail(format!("{kind} cannot be undone"))),
        }
    }
}

/// What was undone so far, and where to go on, stands in the job's result.
async fn walk<R: Importable>(job: &mut Running, undo: &UndoImport) -> Result<Done, Stop> {
    let existing = queue::get(&mut *job.connection().await?, job.workspace_id(), job.id()).await?;
    let mut undone = imports::resume_undo(&existing);
    let actor = job.actor();
    while !undone.done {
        let mut step = job.begin().await?;
        imports::undo_step::<R>(&mut step, &actor, undo.job_id, &mut undone).await?;
        let done = undone.removed + undone.restored + undone.left;
        step.commit(Progress { done, total: None }, &serde_json::to_value(&undone).map_err(shared::Error::from)?)
            .await?;
    }
    Ok(Done::With(serde_json::to_value(imports::finish_undo(undone)).map_err(shared::Error::from)?))
}
