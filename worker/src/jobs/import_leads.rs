//! Brings an uploaded file of leads in.

use shared::crm::leads::Lead;
use shared::imports::ImportLeads;

use crate::jobs::import::walk;
use crate::queue::job::{Done, Running, Stop, Task};

impl Task for ImportLeads {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        walk::<Lead>(job, self.import_id).await
    }
}
