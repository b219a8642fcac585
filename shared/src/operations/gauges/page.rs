//! The page of the cluster's gauges.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::read::{Database, Emails, Jobs, STATES, Schedules, Webhooks, Workspaces};
use super::{Part, Sample};
use crate::jobs::KINDS;
use crate::platform::metrics::{GaugeVec, IntGaugeVec, Page};

/// How many workspaces the page shows.
const BUSIEST: usize = 10;
const JOB: [&str; 2] = ["queue", "kind"];
const WORKSPACE: [&str; 2] = ["workspace_id", "workspace"];

pub(super) fn render(sample: &Sample) -> String {
    let page = Page::default();
    parts(&page, sample);
    if let Some(value) = &sample.jobs.value {
        jobs(&page, value);
    }
    if let Some(value) = &sample.emails.value {
        emails(&page, value);
    }
    if let Some(value) = &sample.webhooks.value {
        webhooks(&page, value);
    }
    if let Some(value) = &sample.schedules.value {
        schedules(&page, value);
    }
    if let Some(value) = &sample.workspaces.value {
        workspaces(&page, value, &busiest(sample));
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

fn jobs(page: &Page, jobs: &Jobs) {
    let counts = page.counts(
        "crm_jobs",
        "Unfinished jobs, by state. due: a worker may claim it. future: due later. retrying: due later, after an \
         attempt that failed. running: a worker holds its lease.",
        &["queue", "kind", "state"],
    );
    let oldest = page.gauges(
        "crm_jobs_oldest_due_seconds",
        "How long the longest waiting job has been due; 0 if none is due.",
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
        counts.with_label_values(&[&open.queue, &open.kind, &open.state]).add(open.jobs);
        let oldest = oldest.with_label_values(&[&open.queue, &open.kind]);
        if open.state == "due" {
            oldest.set(oldest.get().max(open.oldest_s));
        }
    }
    for jobs in &jobs.failed {
        failed.with_label_values(&[&jobs.queue, &jobs.kind]).set(jobs.jobs);
    }
}

fn emails(page: &Page, Emails(open): &Emails) {
    let counts = page.counts("crm_emails", "Unfinished emails, by state.", &["state"]);
    for state in ["queued", "deferred", "sending", "unknown"] {
        counts.with_label_values(&[state]).set(0);
    }
    for emails in open {
        counts.with_label_values(&[&emails.state]).add(emails.emails);
    }
    page.count("crm_emails_due", "Emails that are due.").set(open.iter().map(|emails| emails.due).sum());
    page.gauge("crm_emails_oldest_due_seconds", "How long the longest waiting email has been due; 0 if none is due.")
        .set(open.iter().map(|emails| emails.oldest_due_s).fold(0.0, f64::max));
}

fn webhooks(page: &Page, Webhooks { depth, disabled }: &Webhooks) {
    page.count("crm_webhooks_due", "Deliveries of webhooks that are due.").set(depth.due);
    page.gauge(
        "crm_webhooks_oldest_due_seconds",
        "How long the longest waiting delivery has been due; 0 if none is due.",
    )
    .set(depth.oldest_due_s);
    page.count("crm_webhooks_disabled", "Endpoints that were disabled because they only failed for days.")
        .set(*disabled);
}

fn schedules(page: &Page, Schedules { oldest_due_s, last }: &Schedules) {
    page.gauge(
        "crm_schedules_oldest_due_seconds",
        "How long the longest waiting schedule has been due; 0 if none is due.",
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

fn workspaces(page: &Page, Workspaces { all, names }: &Workspaces, busiest: &[Busy]) {
    page.counts("crm_workspaces", "Workspaces.", &["state"]).with_label_values(&["active"]).set(*all);
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
