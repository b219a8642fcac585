//! The metrics of this process.
//!
//! Handles are looked up once, when a worker starts: a job of a few microseconds must not pay for more than
//! atomics.

use std::collections::HashMap;
use std::time::Duration;

use shared::platform::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Page, ProcessMetrics,
};
use shared::queue::Outcome;

use crate::context::WorkerContext;
use crate::queue::job::Tasks;

/// Bounds for the time of handlers: from a job of a millisecond to an import of ten minutes.
const RUNS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];
/// Bounds for the time of one statement.
const STATEMENTS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
/// Bounds for how long something waits that should not wait.
const WAITS: [f64; 10] = [0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Bounds for how long events wait for their numbers.
const DELAYS: [f64; 7] = [0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0];

/// All metrics of a worker.
pub(crate) struct WorkerMetrics {
    page: Page,
    process: ProcessMetrics,
    kinds: HashMap<&'static str, KindMetrics>,
    /// Of each queue.
    pub queues: Queues,
    held: IntGauge,
    services: IntGaugeVec,
    /// Events that this process gave their numbers.
    pub numbered: IntCounter,
    /// How long they waited for them: the longest of each pass.
    pub delay: Histogram,
    /// Present if this process sends email.
    pub email: Option<EmailMetrics>,
    /// Present if this process delivers webhooks.
    pub webhooks: Option<WebhookMetrics>,
}

/// Metrics of one kind of job.
pub(crate) struct KindMetrics {
    pub started: IntCounter,
    pub rescued: IntCounter,
    succeeded: IntCounter,
    failed: IntCounter,
    retried: IntCounter,
    waited: IntCounter,
    snoozed: IntCounter,
    yielded: IntCounter,
    /// Cancelled, or taken over by another process.
    lost: IntCounter,
    time: Histogram,
}

/// Metrics of one queue.
pub(crate) struct QueueMetrics {
    /// The time of statements that claim jobs.
    pub claims: Histogram,
    /// From the due time of jobs to their claim.
    pub waits: Histogram,
}

/// Metrics of sending email.
pub(crate) struct EmailMetrics {
    outcomes: IntCounterVec,
    delay: Histogram,
    connections: IntGauge,
    blocked: IntGauge,
    on_hold: IntGauge,
}

/// Metrics of delivering webhooks.
pub(crate) struct WebhookMetrics {
    delivered: IntCounter,
    failed: IntCounter,
    time: Histogram,
    delay: Histogram,
    in_flight: IntGauge,
}

impl WorkerMetrics {
    /// Declares the metrics of a worker that runs these kinds of jobs on these queues, `concurrency` of each at
    /// once, and perhaps sends email and delivers webhooks.
    pub fn new(tasks: &Tasks, queues: &[&'static str], concurrency: usize, (email, webhooks): (bool, bool)) -> Self {
        let page = Page::default();
        let limits =
            page.counts("crm_worker_concurrency", "How many jobs of a queue this process runs at once.", &["queue"]);
        for queue in queues {
            limits.with_label_values(&[queue]).set(i64::try_from(concurrency).unwrap_or(i64::MAX));
        }
        Self {
            process: ProcessMetrics::new(&page, "crm-worker", env!("CARGO_PKG_VERSION")),
            kinds: kinds(&page, tasks),
            queues: Queues::new(&page),
            held: page.count("crm_jobs_held", "Jobs that this process holds leases of: running, or about to run."),
            services: page.counts(
                "crm_service_waiting",
                "Whether a service of this worker waits after an error.",
                &["service"],
            ),
            numbered: page.counter("crm_events_numbered_total", "Events that this process gave their numbers."),
            delay: page.histogram(
                "crm_event_delay_seconds",
                "How long events waited for their numbers: the longest of each pass.",
                &DELAYS,
            ),
            email: email.then(|| EmailMetrics::new(&page)),
            webhooks: webhooks.then(|| WebhookMetrics::new(&page)),
            page,
        }
    }

    /// Adds the pools of the process.
    pub fn add_pools(&self, process: &WorkerContext) {
        let pools = &self.process.pools;
        pools.add("jobs", &process.pool);
        pools.add("upkeep", &process.upkeep);
        if let Some(delivery) = &process.delivery {
            pools.add("mail", &delivery.pool);
        }
        if let Some(hooks) = &process.hooks {
            pools.add("webhooks", &hooks.pool);
        }
    }

    /// The metrics of a kind, if this worker knows it.
    pub fn kind(&self, name: &str) -> Option<&KindMetrics> {
        self.kinds.get(name)
    }

    /// The page, with the present values.
    pub fn render(&self, process: &WorkerContext) -> String {
        self.process.refresh(process.database.since_answer().is_some() && !process.database.is_unavailable());
        self.held.set(i64::try_from(process.leases.count()).unwrap_or(i64::MAX));
        for service in process.services.all() {
            self.services.with_label_values(&[service.name]).set(i64::from(service.trouble().is_some()));
        }
        if let (Some(metrics), Some(delivery)) = (&self.email, &process.delivery) {
            metrics.connections.set(i64::try_from(delivery.connections()).unwrap_or(i64::MAX));
            metrics.blocked.set(i64::from(delivery.trouble().is_some()));
            metrics.on_hold.set(i64::from(process.hold.present().is_some()));
        }
        if let (Some(metrics), Some(hooks)) = (&self.webhooks, &process.hooks) {
            metrics.in_flight.set(i64::try_from(hooks.slots.used()).unwrap_or(i64::MAX));
        }
        self.page.render()
    }
}

fn kinds(page: &Page, tasks: &Tasks) -> HashMap<&'static str, KindMetrics> {
    let labels = ["queue", "kind"];
    let started = page.counters("crm_job_attempts_started_total", "Attempts that this process started.", &labels);
    let rescued = page.counters(
        "crm_jobs_rescued_total",
        "Jobs whose lease had expired and that this process put back into the queue.",
        &labels,
    );
    let ended = page.counters(
        "crm_job_attempts_total",
        "Attempts of this process that ended, by outcome. failed: for good. retried: failed, and will be retried. \
         waited: ended because of the database or a hold of email, and will be retried. snoozed: postponed or handed \
         back. yielded: gave its slot to another workspace. lost: cancelled or taken over.",
        &["queue", "kind", "outcome"],
    );
    let times = page.histograms("crm_job_duration_seconds", "Run time of handlers.", &RUNS, &labels);
    let of = |kind: &'static str, queue| KindMetrics::new(&[queue, kind], &started, &rescued, &ended, &times);
    tasks.iter().map(|(name, kind)| (name, of(name, kind.queue))).collect()
}

impl KindMetrics {
    fn new(
        labels: &[&str; 2],
        started: &IntCounterVec,
        rescued: &IntCounterVec,
        ended: &IntCounterVec,
        times: &HistogramVec,
    ) -> Self {
        let ended = |outcome| ended.with_label_values(&[labels[0], labels[1], outcome]);
        Self {
            started: started.with_label_values(labels),
            rescued: rescued.with_label_values(labels),
            succeeded: ended("succeeded"),
            failed: ended("failed"),
            retried: ended("retried"),
            waited: ended("waited"),
            snoozed: ended("snoozed"),
            yielded: ended("yielded"),
            lost: ended("lost"),
            time: times.with_label_values(labels),
        }
    }

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
        counter.inc();
        self.time.observe(time.as_secs_f64());
    }
}

/// Declares the metrics of queues.
pub(crate) struct Queues {
    claims: HistogramVec,
    waits: HistogramVec,
}

impl Queues {
    fn new(page: &Page) -> Self {
        Self {
            claims: page.histograms(
                "crm_job_claim_duration_seconds",
                "Time of the statements that claim jobs, whether they found any or not.",
                &STATEMENTS,
                &["queue"],
            ),
            waits: page.histograms(
                "crm_job_wait_seconds",
                "From the due time of a job to its claim.",
                &WAITS,
                &["queue"],
            ),
        }
    }

    /// The metrics of a queue.
    pub fn of(&self, queue: &str) -> QueueMetrics {
        QueueMetrics { claims: self.claims.with_label_values(&[queue]), waits: self.waits.with_label_values(&[queue]) }
    }
}

impl EmailMetrics {
    /// The outcomes of emails; `suppressed` ones were not sent.
    const OUTCOMES: [&str; 6] = ["sent", "deferred", "bounced", "unknown", "suppressed", "untouched"];

    fn new(page: &Page) -> Self {
        let outcomes = page.counters(
            "crm_emails_total",
            "Emails processed by this process, by outcome. untouched: the attempt ended before delivery was in doubt.",
            &["outcome"],
        );
        for outcome in Self::OUTCOMES {
            outcomes.with_label_values(&[outcome]);
        }
        let on_hold = "Whether this process sends no email until an operator releases it.";
        Self {
            outcomes,
            delay: page.histogram(
                "crm_email_delay_seconds",
                "From the due time of an email to its acceptance by the mail server.",
                &WAITS,
            ),
            connections: page.count("crm_email_connections", "Open connections to the mail server."),
            blocked: page.count("crm_email_blocked", "Whether email waits because the mail server cannot be used."),
            on_hold: page.count("crm_email_on_hold", on_hold),
        }
    }

    /// Counts an email by its outcome.
    pub fn count(&self, outcome: &str) {
        self.count_many(outcome, 1);
    }

    /// Counts emails by their outcome.
    pub fn count_many(&self, outcome: &str, emails: usize) {
        self.outcomes.with_label_values(&[outcome]).inc_by(emails as u64);
    }

    /// Counts a sent email, which was due for so long.
    pub fn sent(&self, delay: Duration) {
        self.count("sent");
        self.delay.observe(delay.as_secs_f64());
    }
}

impl WebhookMetrics {
    fn new(page: &Page) -> Self {
        let outcomes = page.counters(
            "crm_webhook_attempts_total",
            "Attempts of this process to deliver webhooks, by outcome.",
            &["outcome"],
        );
        Self {
            delivered: outcomes.with_label_values(&["delivered"]),
            failed: outcomes.with_label_values(&["failed"]),
            time: page.histogram(
                "crm_webhook_attempt_duration_seconds",
                "Time of an attempt to deliver a webhook.",
                &RUNS,
            ),
            delay: page.histogram(
                "crm_webhook_delay_seconds",
                "From the due time of a delivery to the receiver's acceptance.",
                &WAITS,
            ),
            in_flight: page.count(
                "crm_webhook_attempts_in_flight",
                "Requests of this process to receivers that have no answer yet.",
            ),
        }
    }

    /// Counts a recorded attempt that took so long, and for how long the delivery had been due if it was accepted.
    pub fn attempted(&self, time: Duration, delay: Option<Duration>) {
        self.time.observe(time.as_secs_f64());
        match delay {
            Some(delay) => {
                self.delivered.inc();
                self.delay.observe(delay.as_secs_f64());
            }
            None => self.failed.inc(),
        }
    }
}
