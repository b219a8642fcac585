//! Bodies that arrive too slowly.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use shared::platform::config::Api;
use tokio::time::{Instant, Sleep, sleep_until};

/// A body was given up, since it did not arrive in time.
#[derive(Debug)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body did not arrive in time")
    }
}

impl std::error::Error for Stalled {}

/// The body, given up with [`Stalled`] when it does not arrive in time.
pub(crate) fn in_time(body: Body, settings: &Api) -> Body {
    if body.is_end_stream() {
        body
    } else {
        Body::new(Arriving { body, patience: Patience::new(settings), timer: None })
    }
}

struct Arriving {
    body: Body,
    patience: Patience,
    /// Rings when the wait that is under way has taken too long.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            // Only what is waited for counts: a server that is slow to read is no fault of the client.
            let waited = this.timer.take().map_or(Duration::ZERO, |(began, _)| began.elapsed());
            let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            this.patience.arrived(waited, length.unwrap_or(0));
            return polled;
        }
        let left = this.patience.left();
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

/// For how long a body may still be waited for. Waiting uses it up, and what arrives earns it back: so over
/// any window of waiting at least the rate is needed, and what came faster before earns no more than one
/// window.
#[derive(Debug)]
struct Patience {
    idle: Duration,
    window: Duration,
    /// Bytes a second; 0 needs none.
    rate: u32,
    credit: Duration,
}

impl Patience {
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

    fn patience(rate: u32) -> Patience {
        let second = Duration::from_secs(1);
        Patience { idle: 30 * second, window: 60 * second, rate, credit: 60 * second }
    }

    /// How many seconds a body lives that sends so many bytes each second, of an hour.
    fn lives(mut patience: Patience, bytes_per_s: usize) -> u64 {
        for second in 0..3600 {
            if patience.left() < Duration::from_secs(1) {
                return second;
            }
            patience.arrived(Duration::from_secs(1), bytes_per_s);
        }
        3600
    }

    #[test]
    fn a_body_must_arrive_at_the_rate() {
        assert_eq!(lives(patience(1024), 1024), 3600);
        assert_eq!(lives(patience(1024), 100_000), 3600);
        assert_eq!(lives(patience(1024), 0), 60);
        assert!((60..70).contains(&lives(patience(1024), 100)));
        assert!((110..130).contains(&lives(patience(1024), 512)));
        assert_eq!(lives(patience(0), 0), 3600);
    }

    #[test]
    fn what_came_fast_before_earns_no_more_than_one_window() {
        let mut patience = patience(1024);
        patience.arrived(Duration::from_secs(1), 1_000_000_000);
        assert_eq!(lives(patience, 0), 60);
    }

    #[test]
    fn the_idle_limit_holds_beside_the_rate() {
        assert_eq!(patience(1024).left(), Duration::from_secs(30));
        let mut tired = patience(1024);
        tired.arrived(Duration::from_secs(50), 0);
        assert_eq!(tired.left(), Duration::from_secs(10));
    }
}
