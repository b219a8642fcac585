//! Compiling and rendering templates outside the threads that serve connections.
//!
//! A rendering computes for milliseconds without yielding. On a thread of the async runtime it
//! would delay every connection of that thread. On a blocking thread it delays only other
//! renderings, of which as many run at once as there are cores.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// A safety net: a rendering runs out of fuel long before. After the deadline the caller is asked
/// to retry, and the thread stays occupied until its work ends.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs CPU-bound work on a blocking thread.
///
/// # Errors
/// [`Error::Repeat`] if the work exceeded the deadline; [`Error::Internal`] if it panicked.
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
        Err(_) => Err(Error::Repeat(format!("templates were not rendered within {time:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_exceeds_the_deadline_must_be_repeated() {
        assert_eq!(aside(|| 1).await.unwrap(), 1);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let stuck = aside_within(Duration::from_millis(10), move || ended.recv()).await;
        assert!(matches!(stuck, Err(Error::Repeat(_))), "{stuck:?}");
        end.send(()).unwrap();
        assert!(matches!(aside(|| panic!("a defect")).await, Err::<(), _>(Error::Internal(_))));
    }
}
