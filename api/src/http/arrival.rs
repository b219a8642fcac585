//! Aborts request bodies that arrive too slowly.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use shared::platform::config::Api;
use tokio::time::{Instant, Sleep, sleep_until};

/// The error of a body that did not arrive in time.
#[derive(Debug)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body did not arrive in time")
    }
}

impl std::error::Error for Stalled {}

/// Wraps a body so that it fails with [`Stalled`] when it does not arrive in time.
pub(crate) fn in_time(body: Body, settings: &Api) -> Body {
    if body.is_end_stream() {
        body
    } else {
        Body::new(Arriving { body, budget: WaitBudget::new(settings), timer: None })
    }
}

struct Arriving {
    body: Body,
    budget: WaitBudget,
    /// When the current wait began, and the timer that limits it.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            // Only the time spent waiting counts: the client is not to blame for a server that
            // reads slowly.
            let waited = this.timer.take().map_or(Duration::ZERO, |(began, _)| began.elapsed());
            let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            this.budget.arrived(waited, length.unwrap_or(0));
            return polled;
        }
        let left = this.budget.left();
        let (_, timer) = this.timer.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + left)))
        });
        timer.as_mut().poll(cx).map(|()| Some(Err(axum::Error::new(Stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long the server may still wait for a body. Waiting spends the credit and arriving bytes earn
/// it back, so the body needs at least the minimum rate over any window of waiting. A fast start
/// earns at most one window.
#[derive(Debug)]
struct WaitBudget {
    idle: Duration,
    window: Duration,
    /// Bytes per second; 0 disables the minimum.
    rate: u32,
    credit: Duration,
}

impl WaitBudget {
    fn new(settings: &Api) -> Self {
        let window = Duration::from_secs(settings.body_window_s);
        let idle = Duration::from_secs(settings.upload_idle_timeout_s);
        Self { idle, window, rate: settings.min_body_bytes_per_s, credit: window }
    }

    fn arrived(&mut self, waited: Duration, bytes: usize) {
        if self.rate > 0 {
            let earned = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate));
            self.credit = (self.credit.saturating_sub(waited) + earned).min(self.window);
        }
    }

    /// How long the next wait may be.
    fn left(&self) -> Duration {
        if self.rate == 0 { self.idle } else { self.idle.min(self.credit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(rate: u32) -> WaitBudget {
        let second = Duration::from_secs(1);
        WaitBudget { idle: 30 * second, window: 60 * second, rate, credit: 60 * second }
    }

    /// After how many seconds a body is aborted that sends so many bytes each second; an hour at
    /// most.
    fn aborted_after(mut budget: WaitBudget, bytes_per_s: usize) -> u64 {
        for second in 0..3600 {
            if budget.left() < Duration::from_secs(1) {
                return second;
            }
            budget.arrived(Duration::from_secs(1), bytes_per_s);
        }
        3600
    }

    #[test]
    fn a_body_must_arrive_at_the_minimum_rate() {
        assert_eq!(aborted_after(budget(1024), 1024), 3600);
        assert_eq!(aborted_after(budget(1024), 100_000), 3600);
        assert_eq!(aborted_after(budget(1024), 0), 60);
        assert!((60..70).contains(&aborted_after(budget(1024), 100)));
        assert!((110..130).contains(&aborted_after(budget(1024), 512)));
        assert_eq!(aborted_after(budget(0), 0), 3600);
    }

    #[test]
    fn a_fast_start_earns_at_most_one_window() {
        let mut budget = budget(1024);
        budget.arrived(Duration::from_secs(1), 1_000_000_000);
        assert_eq!(aborted_after(budget, 0), 60);
    }

    #[test]
    fn the_idle_timeout_applies_besides_the_rate() {
        assert_eq!(budget(1024).left(), Duration::from_secs(30));
        let mut spent = budget(1024);
        spent.arrived(Duration::from_secs(50), 0);
        assert_eq!(spent.left(), Duration::from_secs(10));
    }
}
