//! Brings an uploaded file of customers in.

use shared::crm::customers::Customer;
use shared::imports::ImportCustomers;

use crate::jobs::import::walk;
use crate::queue::job::{Done, Running, Stop, Task};

impl Task for ImportCustomers {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        walk::<Customer>(job, self.import_id).await
    }
}
