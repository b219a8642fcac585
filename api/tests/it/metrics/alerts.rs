//! The state of each alert is caused, and its expression in `deploy/prometheus/rules.yaml` finds it in what the
//! programs export.

use std::time::Instant;

use reqwest::Client;
use serde_json::json;
use shared::queue::Outcome;
use testing::create_trigger;
use testing::proxy::{Mode, Proxy};
use testing::smtp::{Act, MailServer, Stage};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::expressions::{Scrape, alerts, evaluate, of_alert};
use super::{PATIENCE, Page, cluster};
use crate::clocks::{set_ahead, worker_ahead};
use crate::holds;
use crate::jobs;
use crate::support::{self, Api, Served};
use crate::webhooks::Setup;
use crate::workflows::rows;

/// A Prometheus with these targets, each with the name of its job.
struct Prometheus {
    targets: Vec<(&'static str, String)>,
    scrapes: Vec<Vec<Scrape>>,
}

impl Prometheus {
    /// Scrapes `/metrics` of these admin ports, and the cluster from the first.
    async fn of(ports: &[(&'static str, &str)]) -> Self {
        let url = |port: &str, path: &str| format!("http://{}{path}", port.trim_start_matches("http://"));
        let mut targets: Vec<_> = ports.iter().map(|(job, port)| (*job, url(port, "/metrics"))).collect();
        targets.push(("crm-cluster", url(ports[0].1, "/metrics/cluster")));
        let mut prometheus = Self { scrapes: vec![Vec::new(); targets.len()], targets };
        prometheus.scrape().await;
        prometheus
    }

    async fn of_api(api: &Api) -> Self {
        Self::of(&[("crm-api", &api.admin.to_string())]).await
    }

    async fn scrape(&mut self) {
        for ((job, url), scrapes) in self.targets.iter().zip(&mut self.scrapes) {
            let page = match reqwest::get(url).await {
                Ok(answer) => answer.text().await.ok().map(|text| Page::parse(&text)),
                Err(_) => None,
            };
            scrapes.push(Scrape::of(job, page));
        }
    }

    fn fires(&self, alert: &str) -> bool {
        !evaluate(&of_alert(alert), &self.scrapes).is_empty()
    }

    /// Checks that no state of these alerts is there yet.
    fn is_quiet(&self, alerts: &[&str]) {
        for alert in alerts {
            assert!(!self.fires(alert), "{alert} fires without a cause");
        }
    }

    /// Scrapes until the expression of each of these alerts holds.
    async fn until_fired(&mut self, alerts: &[&str]) {
        let started = Instant::now();
        loop {
            self.scrape().await;
            let silent: Vec<_> = alerts.iter().filter(|alert| !self.fires(alert)).collect();
            if silent.is_empty() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{silent:?} do not fire: {:#?}", self.scrapes.last());
            sleep(std::time::Duration::from_millis(300)).await;
        }
    }
}

#[test]
fn the_state_of_each_alert_is_caused_in_this_file() {
    for (alert, _) in alerts() {
        assert!(include_str!("alerts.rs").contains(&format!("\"{alert}\"")), "no test causes {alert}");
    }
}

#[tokio::test]
async fn work_that_no_worker_does() {
    let api = Api::start().await;
    api.leaves_jobs("process_followups");
    let quiet = ["CrmJobsOverdue", "CrmJobsFailed", "CrmSchedulesLate", "CrmNightlyMissed"];
    let mut prometheus = Prometheus::of_api(&api).await;
    prometheus.until_fired(&["CrmNoWorkerOnQueue"]).await;
    prometheus.is_quiet(&quiet);

    for _ in 0..11 {
        api.import(jobs::FILE).await;
        jobs::finish(&api, jobs::claim(&api).await, Outcome::Failed("for the test".into())).await;
    }
    support::json(api.post("/dev/crm/followups/process"), 202).await;
    rows(&api, "UPDATE jobs SET run_at = now() - interval '301 s' WHERE status = 'queued'").await;
    rows(&api, "UPDATE schedules SET due_at = now() - interval '601 s', created_at = now() - interval '27 h'").await;
    prometheus.until_fired(&quiet).await;
}

#[tokio::test]
async fn emails_that_nobody_sends() {
    let api = Api::start().await;
    holds::queue_emails(&api, 2, &[]).await;
    let mut prometheus = Prometheus::of_api(&api).await;
    prometheus.is_quiet(&["CrmEmailsOverdue", "CrmEmailsUnknown"]);
    rows(&api, "UPDATE emails SET run_at = now() - interval '901 s'").await;
    prometheus.until_fired(&["CrmEmailsOverdue"]).await;

    let server = MailServer::start().await;
    server.act(|moment| if moment.stage == Stage::Dot { Act::TakeAndDrop } else { Act::Accept });
    let _worker = holds::sending(&api.database, &server, &[("CRM_MAIL__CONNECTIONS", "1")]);
    prometheus.until_fired(&["CrmEmailsUnknown"]).await;
}

#[tokio::test]
async fn email_on_hold() {
    let api = Api::start().await;
    let server = MailServer::start().await;
    let worker = holds::sending(&api.database, &server, &[]);
    let mut prometheus = Prometheus::of(&[("crm-worker", &worker.admin_url().await)]).await;
    prometheus.is_quiet(&["CrmEmailOnHold"]);
    holds::mail(&api.database, &["hold"]).await;
    prometheus.until_fired(&["CrmEmailOnHold"]).await;
}

#[tokio::test]
async fn webhooks_that_nobody_delivers() {
    let setup = Setup::start().await;
    setup.receiver.answer(500);
    let webhook = setup.webhook(json!({})).await;
    setup.lead("ada").await;
    let mut worker = setup.worker();
    setup.until(&webhook, "attempted", |all| all.iter().any(|it| it["attempts"] == 1)).await;
    worker.kill9().await;
    let mut prometheus = Prometheus::of_api(&setup.api).await;
    prometheus.is_quiet(&["CrmWebhooksOverdue"]);
    setup.run("UPDATE webhook_deliveries SET run_at = now() - interval '901 s' WHERE state = 'pending'").await;
    prometheus.until_fired(&["CrmWebhooksOverdue"]).await;
}

#[tokio::test]
async fn a_worker_with_a_wrong_clock_whose_database_fails_and_that_dies() {
    let api = Api::start().await;
    set_ahead(&api, 10).await;
    let mut worker = worker_ahead(&api);
    let mut prometheus = Prometheus::of(&[("crm-worker", &worker.admin_url().await)]).await;
    prometheus.until_fired(&["CrmClockSkew"]).await;
    prometheus.is_quiet(&["CrmServiceWaiting", "CrmProcessDown"]);
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '53100'; END $$";
    let trigger = "CREATE TRIGGER full_disk BEFORE UPDATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION full_disk()";
    create_trigger(&mut api.connection().await, full, trigger).await;
    api.leaves_jobs("process_followups");
    support::json(api.post("/dev/crm/followups/process"), 202).await;
    prometheus.until_fired(&["CrmServiceWaiting"]).await;
    worker.kill9().await;
    prometheus.until_fired(&["CrmProcessDown"]).await;
}

#[tokio::test]
async fn a_database_that_is_unavailable() {
    let api = Api::start().await;
    let proxy = Proxy::start(api.database.url(), Mode::Forward).await;
    let served: Served = support::serve(support::settings(&proxy.url(api.database.url()))).await;
    let mut prometheus = Prometheus::of(&[("crm-api", &served.admin.to_string())]).await;
    let url = format!("http://{}/dev/crm/leads", served.address);
    assert_eq!(Client::new().get(&url).bearer_auth(&api.key).send().await.unwrap().status(), 200);
    prometheus.until_fired(&[]).await;
    prometheus.is_quiet(&["CrmServerErrors"]);
    let age = r#"crm_cluster_sample_age_seconds{part="jobs"}"#;
    cluster(&served.admin.to_string(), "read", |page| page.value(age).is_some()).await;
    proxy.set(Mode::Close);
    assert_eq!(Client::new().get(&url).bearer_auth(&api.key).send().await.unwrap().status(), 503);
    prometheus.until_fired(&["CrmDatabaseUnavailable", "CrmServerErrors"]).await;

    // The figures of the cluster get older. That takes as long as the alert says, so that the threshold is another
    // one here.
    let old = of_alert("CrmClusterSampleOld");
    let (series, _) = old.split_once(" > ").unwrap();
    let began = Instant::now();
    while evaluate(&format!("{series} > 12"), &prometheus.scrapes).is_empty() {
        assert!(began.elapsed() < PATIENCE, "the figures of the cluster stay young");
        sleep(std::time::Duration::from_millis(300)).await;
        prometheus.scrape().await;
    }
    prometheus.is_quiet(&["CrmClusterSampleOld"]);
}

#[tokio::test]
async fn connections_that_are_turned_away() {
    let api = Api::start_with(|settings| settings.api.max_connections = 1).await;
    let mut prometheus = Prometheus::of_api(&api).await;
    prometheus.is_quiet(&["CrmConnectionLimit"]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(api.address).await.unwrap());
    }
    prometheus.until_fired(&["CrmConnectionLimit"]).await;
}

#[tokio::test]
async fn connections_to_the_database_that_are_all_in_use() {
    let api = Api::start_with(|settings| {
        settings.database.max_connections = 1;
        settings.database.acquire_timeout_s = 1;
    })
    .await;
    let mut prometheus = Prometheus::of_api(&api).await;
    prometheus.is_quiet(&["CrmPoolExhausted"]);
    let mut connection = api.connection().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE leads").execute(&mut connection).await.unwrap();
    let waiting = [api.get("/dev/crm/leads").send(), api.get("/dev/crm/leads").send()].map(tokio::spawn);
    prometheus.until_fired(&["CrmPoolExhausted"]).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_stays_open() {
    // For this API, the clock of the database is ahead, so that a transaction becomes old at once.
    let separator = |url: &str| if url.contains('?') { '&' } else { '?' };
    let api = Api::start_with(|settings| {
        let url = &mut settings.database.url;
        let ahead = format!("{}{}options=-c%20search_path%3Dpublic%2Cpg_catalog", &**url, separator(url));
        *url = serde_json::from_value(ahead.into()).unwrap();
    })
    .await;
    let mut connection = api.connection().await;
    sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut connection).await.unwrap();
    set_ahead(&api, 0).await;
    let mut prometheus = Prometheus::of_api(&api).await;
    prometheus.is_quiet(&["CrmOldTransaction"]);
    set_ahead(&api, -601).await;
    prometheus.until_fired(&["CrmOldTransaction"]).await;
}
