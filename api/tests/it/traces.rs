//! What a request causes is found by its id in the logs, and as one trace by a collector.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use testing::collector::{Collector, Span};
use testing::receiver::{Answer, Receiver};
use testing::smtp::MailServer;
use testing::{Database, Process};

use crate::feedback;
use crate::support::{self, Api, id};
use crate::webhooks::{self, Setup};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STATE: &str = "vendor=a-value";
const REQUEST_ID: &str = "the-request-of-this-test";
/// Also logs emails and webhooks that succeed.
const LEVEL: &str = "info,worker::mail=debug,worker::webhooks=debug,worker::queue::run=debug";
/// Generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API and a worker as processes, a mail server, and a receiver of webhooks.
struct Stack {
    setup: Setup,
    api: Process,
    worker: Process,
    mail: MailServer,
}

impl Stack {
    async fn start(telemetry: &[(&str, &str)]) -> Self {
        let (receiver, mail) = (Receiver::start().await, MailServer::start().await);
        let receivers = receiver.address.to_string();
        let setup = Setup::with(receiver, receivers.clone()).await;
        let port = mail.address.port().to_string();
        let mut settings = vec![
            ("CRM_LOG__LEVEL", LEVEL),
            ("CRM_MAIL__HOST", "localhost"),
            ("CRM_MAIL__PORT", &port),
            ("CRM_MAIL__TLS", "none"),
        ];
        settings.extend(webhooks::variables(&receivers));
        settings.extend(telemetry);
        let api = Process::api_with(&setup.api.database, &settings).await;
        let worker = Process::worker_with(&setup.api.database, &[], &settings);
        Self { setup, api, worker, mail }
    }

    /// A request to the process, with the key.
    fn post(&self, path: &str) -> RequestBuilder {
        Client::new().post(format!("{}{path}", self.api.url)).bearer_auth(&self.setup.api.key)
    }

    /// Requests feedback from a customer, and returns the job.
    async fn request_feedback(&self, customer: &str) -> Value {
        let request = self.post(&format!("/dev/crm/customers/{customer}/feedback/request"));
        let request =
            request.header("x-request-id", REQUEST_ID).header("traceparent", PARENT).header("tracestate", STATE);
        support::json(request, 202).await
    }
}

/// The lines of a log that hold, once there are as many as wanted.
async fn lines(process: &Process, count: usize, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let log = process.output();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found: Vec<Value> = lines.filter(|line| holds(line)).collect();
        if found.len() >= count {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{count} lines are not in the log:\n{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a line, or the span in which it was written, has this value.
fn has(line: &Value, field: &str, value: &str) -> bool {
    line[field] == value || line["span"][field] == value
}

#[tokio::test]
async fn what_a_request_causes_is_one_trace_and_found_by_its_id_in_the_logs() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let stack = Stack::start(&[("CRM_TELEMETRY__OTLP_ENDPOINT", &endpoint)]).await;
    let api = &stack.setup.api;
    let customer = feedback::customer(api, "ada@example.com").await;
    let events = ["feedback.*", "job.succeeded", "email.sent"];
    stack.setup.webhook(json!({ "events": events })).await;
    let job = stack.request_feedback(&customer).await;
    let received = stack.setup.receiver.until(3).await;

    // The receiver gets the trace, and each request to it is a span.
    let spans = collector.until("webhook", |spans| named(spans, "POST webhook ").len() >= 3).await;
    let types: BTreeSet<&str> =
        named(&spans, "POST webhook ").iter().map(|it| it.attribute("crm.event.type")).collect();
    assert_eq!(types, BTreeSet::from(["email.sent", "feedback.created", "job.succeeded"]));
    for request in &received {
        let [_, trace_id, span_id, flags] = parts(request.header("traceparent"));
        assert_eq!((trace_id, flags, request.header("tracestate")), (TRACE_ID, "01", STATE));
        assert!(named(&spans, "POST webhook ").iter().any(|span| span.id == span_id), "{request:?}");
        assert_eq!(request.json()["request_id"], REQUEST_ID, "{request:?}");
    }

    // One trace from the request through its job to its email.
    let spans = collector.until("email", |spans| !named(spans, "email ").is_empty()).await;
    let mine: Vec<&Span> = spans.iter().filter(|span| span.trace_id == TRACE_ID).collect();
    let [request] = named(&spans, "POST /dev/crm/customers/{customerId}/feedback/request")[..] else {
        panic!("{spans:#?}")
    };
    assert_eq!((request.kind.as_str(), request.parent_id.as_str()), ("SERVER", "00f067aa0ba902b7"));
    assert_eq!(request.attribute("http.response.status_code"), "202");
    assert_eq!(request.process["service.name"], "crm-api");
    let attempts: Vec<&Span> =
        named(&spans, "job request_feedback").into_iter().filter(|it| it.trace_id == TRACE_ID).collect();
    let [attempt] = attempts[..] else { panic!("{spans:#?}") };
    assert_eq!((attempt.kind.as_str(), &attempt.parent_id), ("CONSUMER", &request.id));
    assert_eq!(attempt.attribute("messaging.message.id"), id(&job));
    assert_eq!(attempt.attribute("crm.job.outcome"), "succeeded");
    assert_eq!(attempt.process["service.name"], "crm-worker");
    assert!(mine.iter().any(|span| span.name == "step" && span.parent_id == attempt.id), "{mine:#?}");
    let [email] = named(&spans, "email feedback_request")[..] else { panic!("{spans:#?}") };
    assert_eq!((email.kind.as_str(), &email.parent_id, &email.trace_id), ("CLIENT", &attempt.id, &request.trace_id));
    assert_eq!((email.attribute("crm.job.id"), email.attribute("crm.email.outcome")), (id(&job), "sent"));
    for span in &mine {
        assert_eq!(span.state, STATE);
        let process: Vec<&str> = span.process.keys().map(String::as_str).collect();
        assert_eq!(process, ["host.name", "process.pid", "service.name", "service.version"]);
        let has_request = span.name == "step" || span.attribute("crm.request.id") == REQUEST_ID;
        assert!(has_request && !format!("{span:?}").contains("ada@example.com"), "{span:#?}");
    }

    // The lines of the request, the job, the email and the webhooks have its id.
    let [answered] = &lines(&stack.api, 1, |line| has(line, "request_id", REQUEST_ID)).await[..] else { panic!() };
    assert_eq!((&answered["message"], &answered["status"]), (&json!("answered"), &json!(202)));
    assert_eq!(answered["span"]["trace_id"], TRACE_ID);
    let all = lines(&stack.worker, 5, |line| {
        has(line, "request_id", REQUEST_ID)
            && line["message"].as_str().is_some_and(|it| it.contains("attempted") || it.contains("ended"))
    });
    let all = all.await;
    let of = |message: &str| -> Vec<&Value> { all.iter().filter(|line| line["message"] == message).collect() };
    let [attempted] = of("job attempt ended")[..] else { panic!("{all:#?}") };
    assert_eq!((&attempted["span"]["job_id"], &attempted["outcome"]), (&job["id"], &json!("succeeded")));
    let [emailed] = of("email attempted")[..] else { panic!("{all:#?}") };
    assert_eq!((&emailed["span"]["job_id"], &emailed["outcome"]), (&job["id"], &json!("sent")));
    assert_eq!((&emailed["to_domain"], &emailed["level"]), (&json!("example.com"), &json!("DEBUG")));
    assert_eq!(of("webhook attempted").len(), 3);
    for line in of("webhook attempted") {
        assert_eq!(
            (&line["outcome"], &line["status"], &line["trace_id"]),
            (&json!("delivered"), &json!(200), &json!(TRACE_ID))
        );
    }
    assert!(!stack.worker.output().contains("ada@example.com"));
    assert_eq!(stack.mail.taken().len(), 1);
}

/// The spans whose names begin so.
fn named<'a>(spans: &'a [Span], prefix: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name.starts_with(prefix)).collect()
}

fn parts(traceparent: &str) -> [&str; 4] {
    traceparent.split('-').collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test]
async fn without_a_collector_the_trace_of_the_caller_is_handed_on() {
    let stack = Stack::start(&[]).await;
    let customer = feedback::customer(&stack.setup.api, "ada@example.com").await;
    stack.setup.webhook(json!({ "events": ["job.succeeded", "email.sent"] })).await;
    stack.request_feedback(&customer).await;
    for request in stack.setup.receiver.until(2).await {
        assert_eq!((request.header("traceparent"), request.header("tracestate")), (PARENT, STATE));
    }
    // What has no valid trace begins none.
    let lead = stack
        .post("/dev/crm/leads")
        .header("traceparent", "00-invalid")
        .json(&json!({ "name": "Bob", "email": "bob@example.com" }));
    let webhook = stack.setup.webhook(json!({ "events": ["lead.created"] })).await;
    support::json(lead, 201).await;
    let request = stack.setup.receiver.until(3).await.pop().unwrap();
    assert!(request.header("traceparent").is_empty() && webhook["id"].is_string(), "{request:?}");
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events WHERE trace_context IS NOT NULL AND type = 'lead.created'")
            .fetch_one(stack.setup.api.database.pool())
            .await
            .unwrap();
    assert_eq!(stored, 0);
}

/// An API that exports its spans to an address, and has answered some requests.
struct Exporting {
    _api: Api,
    process: Process,
}

impl Exporting {
    async fn to(endpoint: &str) -> Self {
        let api = Api::start().await;
        let process = Process::api_with(&api.database, &[("CRM_TELEMETRY__OTLP_ENDPOINT", endpoint)]).await;
        let url = format!("{}/dev/crm/leads?limit=1", process.url);
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(Client::new().get(&url).bearer_auth(&api.key).send().await.unwrap().status(), 200);
            assert!(began.elapsed() < Duration::from_secs(2), "a request waited for {endpoint}");
        }
        Self { _api: api, process }
    }

    /// Stops it, and returns how long that took.
    async fn end(mut self) -> Duration {
        let began = Instant::now();
        assert!(self.process.terminate().await.is_success(), "{}", self.process.output());
        began.elapsed()
    }
}

#[tokio::test]
async fn a_collector_that_refuses_costs_nothing_but_the_spans() {
    let collector = Collector::start().await;
    collector.0.answer(400);
    let exporting = Exporting::to(&collector.endpoint()).await;
    let lost =
        lines(&exporting.process, 1, |line| line["message"].as_str().is_some_and(|it| it.contains("spans were lost")));
    let [lost] = &lost.await[..] else { panic!("there is one line a minute") };
    assert_eq!((&lost["level"], lost["spans"].as_u64() >= Some(1)), (&json!("WARN"), true), "{lost}");
    exporting.end().await;
}

#[tokio::test]
async fn a_collector_that_is_down_or_never_answers_delays_neither_requests_nor_the_end() {
    let silent = Collector::start().await;
    silent.0.script(|_| Answer::never());
    let down = Collector::start().await.endpoint();
    for endpoint in [silent.endpoint(), down] {
        let took = Exporting::to(&endpoint).await.end().await;
        assert!(took < Duration::from_secs(10), "{endpoint}: {took:?}");
    }
}

#[tokio::test]
async fn the_spans_that_have_ended_are_exported_at_the_end() {
    let collector = Collector::start().await;
    let database = Database::create().await;
    let endpoint = collector.endpoint();
    let headers = ("CRM_TELEMETRY__OTLP_HEADERS", "authorization=Bearer secret, x-tenant=acme");
    let settings = [("CRM_TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()), headers];
    let mut process = Process::api_with(&database, &settings).await;
    // Nobody is signed in: this is a request like any other.
    let url = format!("{}/dev/crm/leads", process.url);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 401);
    assert!(process.terminate().await.is_success());
    let spans = collector.spans();
    let [span] = named(&spans, "GET /dev/crm/leads")[..] else { panic!("{spans:#?}") };
    assert_eq!((span.attribute("http.response.status_code"), span.has_failed), ("401", false));
    assert!(span.parent_id.is_empty());
    let request = collector.0.last().unwrap();
    assert_eq!((request.header("authorization"), request.header("x-tenant")), ("Bearer secret", "acme"));
    // Probes belong to no trace.
    assert!(spans.iter().all(|span| !span.name.contains("readyz")), "{spans:#?}");
}

#[tokio::test]
async fn a_request_that_its_sender_does_not_record_is_not_recorded() {
    let collector = Collector::start().await;
    let api = Api::start().await;
    let endpoint = collector.endpoint();
    let settings = [("CRM_TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()), ("CRM_TELEMETRY__SAMPLE_RATIO", "0")];
    let mut process = Process::api_with(&api.database, &settings).await;
    let url = format!("{}/dev/crm/leads?limit=1", process.url);
    let get = |parent: &str| Client::new().get(&url).bearer_auth(&api.key).header("traceparent", parent);
    for parent in ["", &PARENT.replace("-01", "-00"), PARENT] {
        assert_eq!(get(parent).send().await.unwrap().status(), 200);
    }
    assert!(process.terminate().await.is_success());
    let spans = collector.spans();
    let [span] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((span.trace_id.as_str(), span.parent_id.as_str()), (TRACE_ID, "00f067aa0ba902b7"));
}

#[tokio::test]
async fn a_line_of_the_log_names_its_process() {
    let database = Database::create().await;
    let api = Process::api_with(&database, &[("CRM_LOG__FORMAT", "json")]).await;
    let [serving] = &lines(&api, 1, |line| line["message"] == "serving").await[..] else { panic!() };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    if let Ok(host) = host {
        assert_eq!(serving["host"], host.trim());
    }
    let names: Vec<&str> = serving.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["timestamp", "level", "service", "version", "host", "pid", "message", "address", "target"];
    assert_eq!(names, expected);
    assert_eq!((&serving["service"], &serving["version"]), (&json!("crm-api"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(serving["pid"], api.program_id());
    let text = Process::api_with(&database, &[("CRM_LOG__FORMAT", "text")]).await;
    let prefix = format!(" crm-api/{}[{}] ", env!("CARGO_PKG_VERSION"), text.program_id());
    assert!(text.output().lines().all(|line| line.contains(&prefix)), "{}", text.output());
}
