//! Limits of requests in flight, rates, and endpoints that hang.

use std::time::{Duration, Instant};

use serde_json::json;
use testing::receiver::{Answer, Receiver};

use super::{Setup, WEBHOOKS, worker};
use crate::support::id;

#[tokio::test]
async fn an_endpoint_has_at_most_8_requests_in_flight_and_a_rate_limit_spreads_them() {
    let setup = Setup::start().await;
    setup.receiver.script(|_| Answer { after: Duration::from_millis(50), ..Answer::status(200) });
    let fast = setup.webhook(json!({ "events": ["lead.created"] })).await;
    for n in 0..40 {
        setup.lead(&format!("lead{n}")).await;
    }
    let _worker = setup.worker();
    setup.until_all(&fast, 40, "delivered").await;
    assert_eq!(setup.receiver.most_in_flight(), 8);

    setup.api.delete(&format!("{WEBHOOKS}/{}", id(&fast)), 204).await;
    let limited = setup.webhook(json!({ "events": ["lead.created"], "rate_limit": 20 })).await;
    for n in 40..60 {
        setup.lead(&format!("lead{n}")).await;
    }
    setup.until_all(&limited, 20, "delivered").await;
    let received = setup.receiver.received();
    let spread = received[59].at - received[40].at;
    assert!(spread >= Duration::from_millis(19 * 50 - 20), "{spread:?}");
}

#[tokio::test]
async fn endpoints_that_hang_do_not_delay_another_workspace() {
    let hanging = Receiver::start().await;
    hanging.script(|_| Answer::never());
    let receiver = Receiver::start().await;
    let receivers = format!("{},{}", hanging.address, receiver.address);
    let setup = Setup::with(receiver, receivers.clone()).await;
    // Two workspaces with 50 endpoints each that hang, and far more events than slots.
    for _ in 0..50 {
        setup.webhook_to(&hanging, json!({ "events": ["lead.created"] })).await;
    }
    for n in 0..10 {
        setup.lead(&format!("lead{n}")).await;
    }
    let Setup { api, receiver, .. } = setup;
    let api = api.on("second").await;
    let setup = Setup { api, receiver, receivers: receivers.clone() };
    for _ in 0..50 {
        setup.webhook_to(&hanging, json!({ "events": ["lead.created"] })).await;
    }
    for n in 0..10 {
        setup.lead(&format!("lead{n}")).await;
    }
    let _worker = worker(&setup.api.database, &receivers);
    hanging.until(100).await;

    let Setup { api, receiver, .. } = setup;
    let setup = Setup { api: api.on("third").await, receiver, receivers };
    setup.webhook(json!({ "events": ["lead.created"] })).await;
    for n in 0..5 {
        let began = Instant::now();
        setup.lead(&format!("lead{n}")).await;
        let received = setup.receiver.until(n + 1).await;
        let took = received[n].at - began;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    // No workspace has more than 64 requests in flight.
    assert!(hanging.most_in_flight() <= 128, "{}", hanging.most_in_flight());
}
