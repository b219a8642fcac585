//! Counters of this process, in Prometheus' text format.
//!
//! Counters are plain atomics, because looking them up must be cheap for jobs of a few
//! microseconds.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use shared::platform::db::CLOCK;
use shared::queue::{Depth, Outcome, Waiting};
use shared::{mail, webhooks};

use crate::context::WorkerContext;
use crate::http::Depths;
use crate::mail::Delivery;
use crate::webhooks::Webhooks;

/// The upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// Counters for one kind of job.
#[derive(Debug, Default)]
pub(crate) struct KindMetrics {
    pub started: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub retried: AtomicU64,
    pub waited: AtomicU64,
    pub snoozed: AtomicU64,
    pub yielded: AtomicU64,
    /// Cancelled, or taken over by another process.
    pub lost: AtomicU64,
    pub rescued: AtomicU64,
    /// Handler times by bucket, each counted in the first bucket that fits.
    times: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl KindMetrics {
    /// Counts an attempt and the time of its handler. The outcome is `None` if the lease was lost.
    pub fn ended(&self, outcome: Option<&Outcome>, time: Duration) {
        let counter = match outcome {
            Some(Outcome::Succeeded(_)) => &self.succeeded,
            Some(Outcome::Failed(_)) => &self.failed,
            Some(Outcome::Retry { counts: true, .. }) => &self.retried,
            Some(Outcome::Retry { counts: false, .. }) => &self.waited,
            Some(Outcome::Snooze(_)) => &self.snoozed,
            Some(Outcome::Yielded) => &self.yielded,
            None => &self.lost,
        };
        counter.fetch_add(1, Relaxed);
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.times[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// Renders all metrics. If the depths are unknown, their metrics are omitted.
pub(crate) fn render(process: &WorkerContext, depths: Option<&Depths>) -> String {
    let mut text = Text::default();
    type Counter = fn(&KindMetrics) -> &AtomicU64;
    let counters: [(&str, Counter, &str); 9] = [
        ("started", |kind| &kind.started, "Attempts started by this process."),
        ("succeeded", |kind| &kind.succeeded, "Jobs that succeeded in this process."),
        ("failed", |kind| &kind.failed, "Jobs that failed permanently in this process."),
        ("retried", |kind| &kind.retried, "Attempts that failed and will be retried."),
        (
            "waited",
            |kind| &kind.waited,
            "Attempts that ended because of the database, such as its full disk, or a hold, and will be retried.",
        ),
        ("snoozed", |kind| &kind.snoozed, "Attempts that were postponed or handed back without an error."),
        ("yielded", |kind| &kind.yielded, "Attempts that yielded their slot to another workspace."),
        ("lost", |kind| &kind.lost, "Attempts that ended because the job was cancelled or taken over."),
        ("rescued", |kind| &kind.rescued, "Jobs with an expired lease that this process rescued."),
    ];
    for (name, counter, help) in counters {
        let name = format!("crm_jobs_{name}_total");
        text.head(&name, "counter", help);
        for (kind, entry) in process.tasks.iter() {
            text.line(format_args!("{name}{{kind=\"{kind}\"}} {}", counter(&entry.metrics).load(Relaxed)));
        }
    }
    text.head("crm_job_seconds", "histogram", "Run time of handlers.");
    for (kind, entry) in process.tasks.iter() {
        text.histogram("crm_job_seconds", kind, &entry.metrics);
    }
    text.head("crm_claims_total", "counter", "Statements that claim jobs.");
    for queue in &process.queues {
        text.line(format_args!("crm_claims_total{{queue=\"{}\"}} {}", queue.name, queue.claims.load(Relaxed)));
    }
    text.head("crm_clock_skew_seconds", "gauge", "How far this machine's clock is ahead of the database's.");
    text.line(format_args!("crm_clock_skew_seconds {}", CLOCK.skew_seconds()));
    text.head("crm_mail_on_hold", "gauge", "Whether this process sends nothing until an operator releases email.");
    text.line(format_args!("crm_mail_on_hold {}", u8::from(process.hold.present().is_some())));
    if let Some(delivery) = &process.delivery {
        text.delivery(delivery);
    }
    if let Some(hooks) = &process.hooks {
        text.hooks(hooks);
    }
    text.events(process);
    text.services(process);
    if let Some(depths) = depths {
        text.queues(&depths.queues);
        text.waiting(process, &depths.waiting);
        text.outbox(&depths.outbox);
        text.due_webhooks(&depths.webhooks);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn delivery(&mut self, delivery: &Delivery) {
        self.head("crm_mails_total", "counter", "Emails processed by this process, by outcome.");
        for (outcome, count) in delivery.counts.all() {
            self.line(format_args!("crm_mails_total{{outcome=\"{outcome}\"}} {count}"));
        }
        self.head("crm_mail_connections", "gauge", "Open connections to the mail server.");
        self.line(format_args!("crm_mail_connections {}", delivery.connections()));
        self.head("crm_mail_waits", "gauge", "Whether email is waiting because the mail server cannot be used.");
        self.line(format_args!("crm_mail_waits {}", u8::from(delivery.trouble().is_some())));
    }

    fn hooks(&mut self, hooks: &Webhooks) {
        self.head("crm_webhook_attempts_total", "counter", "Attempts of this process to deliver webhooks, by outcome.");
        for (outcome, count) in [("delivered", &hooks.counts.delivered), ("failed", &hooks.counts.failed)] {
            self.line(format_args!("crm_webhook_attempts_total{{outcome=\"{outcome}\"}} {}", count.load(Relaxed)));
        }
        self.head("crm_webhooks_in_flight", "gauge", "Requests of this process to receivers that have no answer yet.");
        self.line(format_args!("crm_webhooks_in_flight {}", hooks.slots.used()));
    }

    fn due_webhooks(&mut self, depth: &webhooks::Depth) {
        self.head("crm_webhooks_due", "gauge", "Due deliveries of all processes.");
        self.line(format_args!("crm_webhooks_due {}", depth.due));
        self.head("crm_webhooks_oldest_due_seconds", "gauge", "How long the longest waiting delivery has been due.");
        self.line(format_args!("crm_webhooks_oldest_due_seconds {}", depth.oldest_due_s));
    }

    fn events(&mut self, process: &WorkerContext) {
        self.head("crm_events_numbered_total", "counter", "Events that this process gave their numbers.");
        self.line(format_args!("crm_events_numbered_total {}", process.delays.numbered.load(Relaxed)));
        let (buckets, sum) = process.delays.histogram();
        let name = "crm_event_delay_seconds";
        self.head(name, "histogram", "How long events waited for their numbers: the longest of each pass.");
        let count = buckets.last().map_or(0, |(_, count)| *count);
        for (bound, count) in buckets {
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }

    fn services(&mut self, process: &WorkerContext) {
        self.head("crm_service_waits", "gauge", "Whether a service of this worker is waiting after an error.");
        for service in process.services.all() {
            let waits = u8::from(service.trouble().is_some());
            self.line(format_args!("crm_service_waits{{service=\"{}\"}} {waits}", service.name));
        }
    }

    fn waiting(&mut self, process: &WorkerContext, waiting: &[Waiting]) {
        self.head("crm_jobs_waiting", "gauge", "Jobs of all processes that wait for a retry after an error.");
        let known = process.tasks.iter().map(|(kind, _)| kind);
        // Includes kinds that only another version knows.
        let kinds: BTreeSet<&str> = known.chain(waiting.iter().map(|waiting| waiting.kind.as_str())).collect();
        for kind in kinds {
            let jobs: i64 = waiting.iter().filter(|waiting| waiting.kind == kind).map(|waiting| waiting.jobs).sum();
            self.line(format_args!("crm_jobs_waiting{{kind=\"{kind}\"}} {jobs}"));
        }
    }

    fn queues(&mut self, depths: &[Depth]) {
        self.head("crm_queue_jobs", "gauge", "Unfinished jobs of all processes.");
        for depth in depths {
            self.line(format_args!("crm_queue_jobs{{queue=\"{}\",status=\"queued\"}} {}", depth.queue, depth.queued));
            self.line(format_args!("crm_queue_jobs{{queue=\"{}\",status=\"running\"}} {}", depth.queue, depth.running));
        }
        self.head("crm_queue_oldest_due_seconds", "gauge", "How long the longest waiting job has been due.");
        for depth in depths {
            self.line(format_args!("crm_queue_oldest_due_seconds{{queue=\"{}\"}} {}", depth.queue, depth.oldest_due_s));
        }
    }

    fn outbox(&mut self, depth: &mail::Depth) {
        self.head("crm_outbox_mails", "gauge", "Unfinished emails of all processes.");
        let states = [
            ("queued", depth.queued),
            ("deferred", depth.deferred),
            ("sending", depth.sending),
            ("unknown", depth.unknown),
        ];
        for (state, count) in states {
            self.line(format_args!("crm_outbox_mails{{state=\"{state}\"}} {count}"));
        }
        self.head("crm_outbox_oldest_due_seconds", "gauge", "How long the longest waiting email has been due.");
        self.line(format_args!("crm_outbox_oldest_due_seconds {}", depth.oldest_due_s));
    }

    fn histogram(&mut self, name: &str, kind: &str, metrics: &KindMetrics) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bucket, bound) in metrics.times.iter().zip(bounds) {
            count += bucket.load(Relaxed);
            self.line(format_args!("{name}_bucket{{kind=\"{kind}\",le=\"{bound}\"}} {count}"));
        }
        let seconds = Duration::from_nanos(metrics.nanos.load(Relaxed)).as_secs_f64();
        self.line(format_args!("{name}_sum{{kind=\"{kind}\"}} {seconds}"));
        self.line(format_args!("{name}_count{{kind=\"{kind}\"}} {count}"));
    }
}
