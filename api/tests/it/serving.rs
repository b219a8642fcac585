//! Connections that are slow, cut short, or under way when the process must stop.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{self, Api};

async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(api.address).await.unwrap()
}

/// Everything until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    read.expect("the connection is closed").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_costs_the_connection() {
    let api = Api::start_with(|settings| settings.api.header_timeout_s = 1).await;
    let mut slow = connect(&api).await;
    let begun = Instant::now();
    let (mut reader, mut writer) = slow.split();
    let drip = async {
        loop {
            for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: " {
                let _ = writer.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = drip => {}
        // Closed or reset, according to what was still on its way.
        _ = reader.read_to_end(&mut answer) => {}
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert!(answer.is_empty());
    assert_eq!(api.get("/dev/crm/leads").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let api = Api::start_with(|settings| settings.api.upload_idle_timeout_s = 1).await;
    let json = api.head("POST", "/dev/crm/leads", "Content-Type: application/json\r\nContent-Length: 100\r\n");
    let form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n";
    let form = api.head("POST", "/dev/crm/leads/import", form)
        + "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.csv\"\r\n\r\nName,Email\r\n";
    for request in [json + "{\"name\":", form] {
        let mut stalled = connect(&api).await;
        stalled.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stalled).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.ends_with("{\"message\":\"Request body did not arrive in time\"}"), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_upload_hears_why_though_it_is_still_sending() {
    let mut api = Api::start().await;
    api.key.push('0');
    let body = vec![b'a'; 30_000_000];
    let head = api.head("POST", "/dev/crm/leads/import", &format!("Content-Length: {}\r\n", body.len()));
    let mut stream = connect(&api).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // A plain client sends everything before it reads anything.
    stream.write_all(&body).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

/// Sends the head of a create and returns when its body is being waited for.
async fn begin_create(api: &Api, length: usize) -> TcpStream {
    let mut stream = connect(api).await;
    let headers = format!("Content-Type: application/json\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n");
    stream.write_all(api.head("POST", "/dev/crm/leads", &headers).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn what_is_under_way_ends_before_the_process_does() {
    let mut api = Api::start().await;
    let body = r#"{"name":"Ann","email":"ann@example.com"}"#;
    let mut under_way = begin_create(&api, body.len()).await;
    let mut idle = connect(&api).await;
    idle.write_all(api.head("GET", "/healthz", "").as_bytes()).await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");

    api.stop();

    // A connection between two requests is closed, and new ones are not taken.
    assert!(rest(&mut idle).await.ends_with("{\"message\":\"alive\"}"));
    assert!(TcpStream::connect(api.address).await.is_err());
    under_way.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut under_way).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let database = api.stopped().await;
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM leads")
        .fetch_one(&mut support::connect(database.url()).await)
        .await
        .unwrap();
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn streams_without_an_end_do_not_hold_the_process() {
    let api = Api::start().await;
    let job = api.import("Name,Email\nAnn,ann@example.com\n").await;
    let mut events = api.get(&format!("/dev/crm/jobs/{}/events", job["id"].as_str().unwrap())).send().await.unwrap();
    assert!(events.chunk().await.unwrap().unwrap().starts_with(b"event: progress"));
    let begun = Instant::now();
    api.stopped().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    while let Some(more) = events.chunk().await.unwrap() {
        assert!(!more.starts_with(b"event: end"));
    }
}

#[tokio::test]
async fn who_does_not_end_in_time_is_cut_off() {
    let api = Api::start_with(|settings| settings.api.shutdown_s = 1).await;
    let _stalled = begin_create(&api, 100).await;
    let begun = Instant::now();
    api.stopped().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    let api = Api::start_with(|settings| settings.api.request_timeout_s = 1).await;
    let mut connection = api.connection().await;
    let mut transaction = sqlx::Connection::begin(&mut connection).await.unwrap();
    sqlx::query("LOCK TABLE leads").execute(&mut *transaction).await.unwrap();
    let answer = support::json(api.get("/dev/crm/leads"), 503).await;
    assert_eq!(answer, json!({ "message": "Request took too long" }));
}
