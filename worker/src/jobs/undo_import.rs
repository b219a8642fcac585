//! Undoes an import.

use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::imports::{ImportCustomers, ImportLeads, Undo, UndoImport};
use shared::queue::Payload;

use crate::jobs::pages::walk;
use crate::queue::job::{Done, Running, Stop, Task};

impl Task for UndoImport {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        match self.kind.as_str() {
            ImportLeads::KIND => walk(Undo::<Lead>::of(self.job_id), job).await,
            ImportCustomers::KIND => walk(Undo::<Customer>::of(self.job_id), job).await,
            kind => Err(Stop::Fail(format!("{kind} cannot be undone"))),
        }
    }
}
