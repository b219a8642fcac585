//! The page of the cluster's gauges.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use uuid::Uuid;

use super::read::{Database, Emails, Jobs, OpenJobs, STATES, Schedules, Webhooks, Workers, Workspaces};
use super::{Part, Sample};
use crate::jobs::KINDS;
use crate::operations::workers::WorkerState;
use crate::platform::metrics::{GaugeVec, IntGaugeVec, Page};
use crate::queue::{Paused, QUEUES};
use crate::{mail, webhooks};

/// How many workspaces the page shows.
const BUSIEST: usize = 10;
const JOB: [&str; 2] = ["queue", "kind"];
const WORKSPACE: [&str; 2] = ["workspace_id", "workspace"];

pub(super) fn render(sample: &Sample) -> String {
    let (page, none) = (Page::default(), Paused::default());
    let paused = sample.paused().unwrap_or(&none);
    parts(&page, sample);
    if let Some(value) = &sample.workers.value {
        workers(&page, value);
    }
    if let Some(value) = &sample.jobs.value {
        jobs(&page, value, paused);
    }
    if let Some(value) = &sample.emails.value {
        emails(&page, value, paused);
    }
    if let Some(value) = &sample.webhooks.value {
        due_webhooks(&page, value, paused);
    }
    if let Some(value) = &sample.schedules.value {
        schedules(&page, value);
    }
    if let Some(value) = &sample.workspaces.value {
        workspaces(&page, value, paused, &busiest(sample));
    }
    if let Some(value) = &sample.database.value {
        database(&page, value);
    }
    page.render()
}

/// How each part was read.
fn parts(page: &Page, sample: &Sample) {
    let of_part = ["part"];
    let parts = Parts {
        success: page.counts(
            "crm_cluster_sample_success",
            "Whether this process could read a part of these values when it last tried.",
            &of_part,
        ),
        age: page.gauges("crm_cluster_sample_age_seconds", "Age of the values of a part.", &of_part),
        duration: page.gauges(
            "crm_cluster_sample_duration_seconds",
            "How long it took to read the values of a part.",
            &of_part,
        ),
    };
    parts.show("workers", &sample.workers);
    parts.show("jobs", &sample.jobs);
    parts.show("emails", &sample.emails);
    parts.show("webhooks", &sample.webhooks);
    parts.show("schedules", &sample.schedules);
    parts.show("workspaces", &sample.workspaces);
    parts.show("database", &sample.database);
}

struct Parts {
    success: IntGaugeVec,
    age: GaugeVec,
    duration: GaugeVec,
}

impl Parts {
    fn show<T>(&self, name: &str, part: &Part<T>) {
        self.success.with_label_values(&[name]).set(i64::from(part.succeeded.unwrap_or(false)));
        if let Some(read_at) = part.read_at {
            self.age.with_label_values(&[name]).set(read_at.elapsed().as_secs_f64());
            self.duration.with_label_values(&[name]).set(part.took.as_secs_f64());
        }
    }
}

/// For how long a worker that was lost is shown.
const LOST: TimeDelta = TimeDelta::hours(1);

fn workers(page: &Page, Workers { all, pauses, read_at, .. }: &Workers) {
    let counts = page.counts(
        "crm_workers",
        "Workers, by state. draining: claims nothing more. drained: also holds nothing. lost: ended within the last hour \
         without saying so, or is cut off.",
        &["state"],
    );
    let of_queue = page.counts("crm_queue_workers", "Running workers of a queue.", &["queue"]);
    for queue in QUEUES {
        of_queue.with_label_values(&[queue]).set(0);
    }
    let states = [
        (WorkerState::Running, "running"),
        (WorkerState::Draining, "draining"),
        (WorkerState::Drained, "drained"),
        (WorkerState::Lost, "lost"),
    ];
    for (state, name) in states {
        let of_state = all.iter().filter(|worker| {
            worker.state == state && (state != WorkerState::Lost || *read_at - worker.heartbeat_at < LOST)
        });
        counts.with_label_values(&[name]).set(i64::try_from(of_state.count()).unwrap_or(i64::MAX));
    }
    for worker in all.iter().filter(|worker| worker.state == WorkerState::Running) {
        worker.queues.iter().for_each(|queue| of_queue.with_label_values(&[queue]).inc());
    }
    let targets = page.counts("crm_pauses", "Queues, kinds of jobs and workspaces that are paused.", &["target"]);
    for target in ["queue", "kind", "workspace"] {
        let of_target = pauses.iter().filter(|pause| pause.target == target).count();
        targets.with_label_values(&[target]).set(i64::try_from(of_target).unwrap_or(i64::MAX));
    }
}

fn jobs(page: &Page, jobs: &Jobs, paused: &Paused) {
    let counts = page.counts(
        "crm_jobs",
        "Unfinished jobs, by state. due: a worker may claim it. future: due later. paused: due, but its queue, kind or \
         workspace is paused, or the workspace is suspended. retrying: due later, after an attempt that failed. \
         running: a worker holds its lease. A queue is counted up to 50,000 waiting jobs.",
        &["queue", "kind", "state"],
    );
    let oldest = page.gauges(
        "crm_jobs_oldest_due_seconds",
        "How long the longest waiting job has been due, without paused ones; 0 if none is due.",
        &JOB,
    );
    let failed =
        page.counts("crm_jobs_failed", "Jobs that failed in the last 24 hours and were not retried since.", &JOB);
    for kind in KINDS {
        for state in STATES {
            counts.with_label_values(&[kind.queue, kind.name, state]).set(0);
        }
        oldest.with_label_values(&[kind.queue, kind.name]).set(0.0);
        failed.with_label_values(&[kind.queue, kind.name]).set(0);
    }
    for open in &jobs.open {
        let state = state(open, paused);
        counts.with_label_values(&[&open.queue, &open.kind, state]).add(open.jobs);
        let oldest = oldest.with_label_values(&[&open.queue, &open.kind]);
        if state == "due" {
            oldest.set(oldest.get().max(open.oldest_s));
        }
    }
    for jobs in &jobs.failed {
        failed.with_label_values(&[&jobs.queue, &jobs.kind]).set(jobs.jobs);
    }
}

fn state<'a>(open: &'a OpenJobs, paused: &Paused) -> &'a str {
    let is_paused =
        paused.has_queue(&open.queue) || paused.kinds().contains(&open.kind) || paused.has_workspace(open.workspace_id);
    if open.state == "due" && is_paused { "paused" } else { &open.state }
}

fn emails(page: &Page, Emails(open): &Emails, paused: &Paused) {
    let counts =
        page.counts("crm_emails", "Unfinished emails, by state, counted up to 50,000 waiting ones.", &["state"]);
    for state in ["queued", "deferred", "sending", "unknown"] {
        counts.with_label_values(&[state]).set(0);
    }
    for emails in open {
        counts.with_label_values(&[&emails.state]).add(emails.emails);
    }
    let is_paused = paused.has_queue(mail::QUEUE);
    let due = || open.iter().filter(|open| !is_paused && !paused.has_workspace(open.workspace_id));
    page.count("crm_emails_due", "Emails that are due, without those of paused and suspended workspaces.")
        .set(due().map(|emails| emails.due).sum());
    page.gauge(
        "crm_emails_oldest_due_seconds",
        "How long the longest waiting email has been due, without paused ones; 0 if none is due.",
    )
    .set(due().map(|emails| emails.oldest_due_s).fold(0.0, f64::max));
}

fn due_webhooks(page: &Page, Webhooks { due, disabled }: &Webhooks, paused: &Paused) {
    let is_paused = paused.has_queue(webhooks::QUEUE);
    let due = || due.iter().filter(|due| !is_paused && !paused.has_workspace(due.workspace_id));
    page.count(
        "crm_webhooks_due",
        "Deliveries of webhooks that are due, without those of paused and suspended workspaces, counted up to 50,000.",
    )
    .set(due().map(|webhooks| webhooks.due).sum());
    page.gauge(
        "crm_webhooks_oldest_due_seconds",
        "How long the longest waiting delivery has been due, without paused ones; 0 if none is due.",
    )
    .set(due().map(|webhooks| webhooks.oldest_s).fold(0.0, f64::max));
    page.count("crm_webhooks_disabled", "Endpoints that were disabled because they only failed for days.")
        .set(*disabled);
}

fn schedules(page: &Page, Schedules { oldest_due_s, last }: &Schedules) {
    page.gauge(
        "crm_schedules_oldest_due_seconds",
        "How long the longest waiting schedule has been due, without those of suspended workspaces; 0 if none is due.",
    )
    .set(*oldest_due_s);
    let successes = page.gauges(
        "crm_schedule_last_success_timestamp_seconds",
        "When the last successful run of a schedule ended; before the first, when the schedule was created. At most 200 \
         schedules: first nightly runs without a success for 26 hours, then those with the oldest success.",
        &["workspace_id", "schedule_id", "kind"],
    );
    for schedule in last {
        let labels = [&schedule.workspace_id.to_string(), &schedule.id.to_string(), &schedule.kind];
        successes.with_label_values(&labels).set(schedule.at.timestamp_micros() as f64 / 1e6);
    }
}

/// What a workspace has in progress.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Busy {
    pub workspace_id: Uuid,
    jobs: i64,
    emails: i64,
}

/// The busiest workspaces, by due and running jobs and due emails.
pub(super) fn busiest(sample: &Sample) -> Vec<Busy> {
    let mut all = BTreeMap::<Uuid, Busy>::new();
    let jobs = sample.jobs.value.iter().flat_map(|jobs| &jobs.open);
    for open in jobs.filter(|open| ["due", "running"].contains(&open.state.as_str())) {
        all.entry(open.workspace_id).or_default().jobs += open.jobs;
    }
    for open in sample.emails.value.iter().flat_map(|emails| &emails.0).filter(|open| open.due > 0) {
        all.entry(open.workspace_id).or_default().emails += open.due;
    }
    let mut all: Vec<Busy> = all.into_iter().map(|(workspace_id, busy)| Busy { workspace_id, ..busy }).collect();
    all.sort_by_key(|busy| std::cmp::Reverse(busy.jobs + busy.emails));
    all.truncate(BUSIEST);
    all
}

fn workspaces(page: &Page, Workspaces { all, names }: &Workspaces, paused: &Paused, busiest: &[Busy]) {
    let suspended = i64::try_from(paused.suspended().len()).unwrap_or(i64::MAX);
    let counts = page.counts("crm_workspaces", "Workspaces.", &["state"]);
    counts.with_label_values(&["active"]).set(all - suspended);
    counts.with_label_values(&["suspended"]).set(suspended);
    let jobs = page.counts("crm_workspace_jobs", "Due and running jobs of the ten busiest workspaces.", &WORKSPACE);
    let emails = page.counts("crm_workspace_emails", "Due emails of the ten busiest workspaces.", &WORKSPACE);
    for busy in busiest {
        let name = names.iter().find(|(id, _)| *id == busy.workspace_id).map_or("", |(_, name)| name);
        let labels = [&busy.workspace_id.to_string(), name];
        jobs.with_label_values(&labels).set(busy.jobs);
        emails.with_label_values(&labels).set(busy.emails);
    }
}

fn database(page: &Page, Database { server, connections, tables, replicas }: &Database) {
    let open = page.counts("crm_database_connections", "Connections of all clients to PostgreSQL.", &["state"]);
    for state in ["active", "idle", "idle_in_transaction", "other"] {
        open.with_label_values(&[state]).set(0);
    }
    for (state, count) in connections {
        open.with_label_values(&[state]).set(*count);
    }
    page.count("crm_database_max_connections", "How many clients PostgreSQL admits, without reserved connections.")
        .set(server.max_connections.into());
    page.gauge("crm_database_oldest_transaction_seconds", "Age of the oldest transaction that is open.")
        .set(server.oldest_transaction_s);
    page.count("crm_database_lock_waits", "Sessions that wait for a lock.").set(server.lock_waits);
    page.count("crm_database_size_bytes", "Size of the database.").set(server.size);
    let rows = page.counts(
        "crm_database_table_rows",
        "Rows of the ten tables with most dead rows, as PostgreSQL estimates them.",
        &["table", "state"],
    );
    for table in tables {
        rows.with_label_values(&[&table.name, "live"]).set(table.live);
        rows.with_label_values(&[&table.name, "dead"]).set(table.dead);
    }
    page.count("crm_database_replicas", "Connected replicas.").set(i64::try_from(replicas.len()).unwrap_or(i64::MAX));
    let bytes = page.gauges(
        "crm_database_replication_lag_bytes",
        "How much a replica has not replayed yet. Only if the role may see it: GRANT pg_monitor.",
        &["replica"],
    );
    let seconds = page.gauges(
        "crm_database_replication_lag_seconds",
        "How far a replica is behind; 0 while nothing is written. Only if the role may see it: GRANT pg_monitor.",
        &["replica"],
    );
    for replica in replicas {
        if let Some(lag) = replica.lag_bytes {
            bytes.with_label_values(&[&replica.name]).set(lag);
            seconds.with_label_values(&[&replica.name]).set(replica.lag_s.unwrap_or(0.0));
        }
    }
}
