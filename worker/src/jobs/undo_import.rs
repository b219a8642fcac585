//! Undoes an import.

use shared::imports::{Undo, UndoImport};
use shared::queue::Payload;

use crate::jobs::pages::walk;
use crate::queue::job::{Done, Running, Stop, Task};

impl Task for UndoImport {
    async fn run(self, job: &mut Running) -> Result<Done, Stop> {
        macro_rules! undo {
            ($($job:ty => $record:ty,)+) => {
                match self.kind.as_str() {
                    $(<$job>::KIND => walk(Undo::<$record>::of(self.job_id), job).await,)+
                    kind => Err(Stop::Fail(format!("{kind} cannot be undone"))),
                }
            };
        }
        shared::import_kinds!(undo)
    }
}
