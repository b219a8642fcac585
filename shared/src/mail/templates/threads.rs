//! Templates are read and filled in beside the threads that serve connections.
//!
//! A rendering computes for milliseconds without a pause. On a thread of the runtime it would hold up
//! every connection that this thread serves; here it holds up other renderings only, and these take
//! turns: there are as many at once as there are cores.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// How long one piece of work may take. Fuel ends a rendering long before: this is for what nobody has
/// thought of. The caller is told to try again, and the thread is used for nothing else until it is done.
const DEADLINE: Duration = Duration::from_secs(5);

/// Does work that computes on a thread for that.
///
/// # Errors
/// [`Error::Repeat`] if it was not done in time; [`Error::Internal`] if it panicked.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    aside_within(DEADLINE, work).await
}

async fn aside_within<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    static TURNS: LazyLock<Arc<Semaphore>> =
        LazyLock::new(|| Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))));
    let turn = TURNS.clone().acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    match tokio::time::timeout(time, working).await {
        Ok(done) => done.map_err(|error| Error::Internal(error.into())),
        Err(_) => Err(Error::Repeat(format!("templates were not filled in within {time:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_does_not_end_in_time_is_to_be_repeated() {
        assert_eq!(aside(|| 1).await.unwrap(), 1);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let stuck = aside_within(Duration::from_millis(10), move || ended.recv()).await;
        assert!(matches!(stuck, Err(Error::Repeat(_))), "{stuck:?}");
        end.send(()).unwrap();
        assert!(matches!(aside(|| panic!("a defect")).await, Err::<(), _>(Error::Internal(_))));
    }
}
