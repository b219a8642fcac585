//! Nobody reaches an address through webhooks that the operator has not allowed.

use serde_json::json;
use testing::receiver::{Answer, Receiver};

use super::{Setup, WEBHOOKS};
use crate::support::id;

/// Hosts that lead to this machine or to networks that are not public, as URLs can write them.
const HOSTILE: [&str; 50] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "[::ffff:10.0.0.1]",
    "[::ffff:192.168.0.1]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[3fff::1]",
];

#[tokio::test]
async fn no_hostile_address_is_connected_to() {
    // The allowed receiver and the traps have the same port, on other addresses.
    let receiver = Receiver::at("127.0.0.9:0").await;
    let port = receiver.address.port();
    let mut traps = Vec::new();
    for host in ["127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]"] {
        traps.push(Receiver::at(&format!("{host}:{port}")).await);
    }
    let receivers = receiver.address.to_string();
    let setup = Setup::with(receiver, receivers).await;
    let webhook = setup.webhook(json!({})).await;
    for (n, host) in HOSTILE.iter().enumerate() {
        let url = format!("http://{host}:{port}/hooks");
        // A name is refused when it is resolved, an address at once.
        let created = setup.api.post(WEBHOOKS).json(&json!({ "url": url, "events": ["*"] })).send().await.unwrap();
        assert!(created.status() == 400 || host.eq_ignore_ascii_case("localhost") || *host == "localhost.", "{host}");
        sqlx::query(
            "INSERT INTO webhooks
             SELECT (jsonb_populate_record(webhooks, jsonb_build_object('id', $1::uuid, 'url', $2::text))).* FROM webhooks
             WHERE id = $3::uuid",
        )
        .bind(uuid::Uuid::from_u128(n as u128 + 1))
        .bind(&url)
        .bind(uuid::Uuid::parse_str(id(&webhook)).unwrap())
        .execute(setup.api.database.pool())
        .await
        .unwrap();
    }
    // The secrets are sealed for another id, so that the copies need secrets of their own.
    reseal(&setup).await;
    let _worker = setup.worker();
    setup.lead("ada").await;
    setup.receiver.until(1).await;
    let began = std::time::Instant::now();
    let errors = loop {
        let errors: Vec<(String, Option<String>)> = sqlx::query_as(
            "SELECT url, error FROM webhooks JOIN webhook_deliveries
                 ON webhook_deliveries.workspace_id = webhooks.workspace_id AND webhook_id = webhooks.id
             WHERE attempts > 0 AND state = 'pending'",
        )
        .fetch_all(setup.api.database.pool())
        .await
        .unwrap();
        if errors.len() >= HOSTILE.len() {
            break errors;
        }
        assert!(began.elapsed() < super::PATIENCE, "{} of {}: {errors:#?}", errors.len(), HOSTILE.len());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    for (url, error) in errors {
        let error = error.unwrap_or_default();
        let is_unknown = url.contains("localhost") || error.contains("cannot be resolved") || error.contains("URL");
        assert!(error == "the receiver has an address that is not allowed" || is_unknown, "{url}: {error}");
    }
    assert!(traps.iter().all(|trap| trap.connections() == 0), "somebody connected to a trap");
}

/// Stores the secrets of all webhooks readable, as without a key.
async fn reseal(setup: &Setup) {
    setup.run("UPDATE webhooks SET secret = '\\x00'::bytea || 'whsec_AAAA', headers = '\\x00'::bytea || '{}'").await;
}

#[tokio::test]
async fn a_redirect_to_a_trap_is_not_followed_and_proxies_are_ignored() {
    let trap = Receiver::at("127.0.0.3:0").await;
    let setup = Setup::start().await;
    let target = trap.url("/trap");
    setup.receiver.script(move |_| Answer { headers: vec![("location", target.clone())], ..Answer::status(302) });
    let proxy = trap.url("");
    let port = setup.receiver.address.to_string();
    let variables =
        [("http_proxy", proxy.as_str()), ("HTTP_PROXY", &proxy), ("ALL_PROXY", &proxy), ("https_proxy", &proxy)];
    let settings: Vec<(&str, &str)> = super::variables(&port).into_iter().chain(variables).collect();
    let _worker = testing::Process::worker_with(&setup.api.database, &[], &settings);
    let webhook = setup.webhook(json!({})).await;
    setup.lead("ada").await;
    setup.until(&webhook, "attempted", |all| all.len() == 1 && all[0]["status"] == 302).await;
    assert_eq!(trap.connections(), 0);
}
