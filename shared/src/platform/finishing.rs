//! Futures that run to completion even when they are dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where a dropped [`Finishing`] future runs to completion.
#[derive(Clone, Debug, Default)]
pub struct Background {
    /// The tasks that are still running.
    pub tasks: TaskTracker,
    /// Stops the tasks that are still running.
    pub cut_off: CancellationToken,
}

/// A future that runs to completion: dropped before its end, it continues in its own task.
///
/// While it is polled, it costs neither a task nor a change of threads.
pub struct Finishing<'a, T: Send + 'static> {
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    background: &'a Background,
}

impl<'a, T: Send + 'static> Finishing<'a, T> {
    /// Wraps a future, which continues in the background when the wrapper is dropped.
    pub fn new(future: impl Future<Output = T> + Send + 'static, background: &'a Background) -> Self {
        Self { rest: Some(Box::pin(future)), background }
    }
}

impl<T: Send + 'static> Future for Finishing<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(rest) = &mut self.rest else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finishing<'_, T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let Background { tasks, cut_off } = self.background.clone();
            tasks.spawn_on(async move { drop(cut_off.run_until_cancelled(rest).await) }, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_dropped_future_runs_to_completion_unless_it_is_cut_off() {
        let background = Background::default();
        let (go, started) = oneshot::channel::<()>();
        let (end, mut ended) = oneshot::channel();
        let work = async move {
            started.await.unwrap();
            end.send(()).unwrap();
        };
        let mut finishing = Finishing::new(work, &background);
        assert!(futures_util::poll!(&mut finishing).is_pending());
        drop(finishing);
        assert!(ended.try_recv().is_err());
        go.send(()).unwrap();
        ended.await.unwrap();

        drop(Finishing::new(std::future::pending::<()>(), &background));
        assert_eq!(background.tasks.len(), 1);
        background.cut_off.cancel();
        background.tasks.close();
        background.tasks.wait().await;
    }
}
