//! Undoes a bulk change.

use shared::bulk::{BulkChanged, Undo, UndoBulk};
use shared::crm::customers::Customer;
use shared::crm::leads::Lead;
use shared::crm::orders::Order;

use crate::jobs::pages::walk;
use crate::queue::job::{Done, Running, Stop, Task};

impl Task for UndoBulk {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        match self.kind.as_str() {
            Lead::JOB => walk(Undo::<Lead>::of(self.job_id), job).await,
            Customer::JOB => walk(Undo::<Customer>::of(self.job_id), job).await,
            Order::JOB => walk(Undo::<Order>::of(self.job_id), job).await,
            kind => Err(Stop::Fail(format!("{kind} cannot be undone"))),
        }
    }
}
