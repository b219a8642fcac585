//! Work that ends, whoever waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the rest of a [`Finishing`] future runs when nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub struct Background {
    /// Waits for what still runs.
    pub tasks: TaskTracker,
    /// Ends what still runs.
    pub cut_off: CancellationToken,
}

/// A future that runs to its end: dropped before that, it continues in a task of its own.
///
/// While somebody waits for it, it costs no task and no change of threads.
pub struct Finishing<'a, T: Send + 'static> {
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    background: &'a Background,
}

impl<'a, T: Send + 'static> Finishing<'a, T> {
    /// A future whose rest runs in the background.
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
    async fn a_dropped_future_runs_to_its_end_unless_it_is_cut_off() {
        let background = Background::default();
        let (go, gone) = oneshot::channel::<()>();
        let (end, mut ended) = oneshot::channel();
        let work = async move {
            gone.await.unwrap();
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
