//! Connections that are slow, cut short, or under way when the process must stop.

use std::time::{Duration, Instant};

use serde_json::json;
use testing::proxy::{Mode, Proxy};
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
    api.leaves_jobs("import_leads");
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

/// Sends bytes and returns the whole answer.
async fn answer(api: &Api, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = connect(api).await;
    // The server may have answered before everything was sent.
    let _ = stream.write_all(bytes.as_ref()).await;
    rest(&mut stream).await
}

#[tokio::test]
async fn what_is_no_request_is_answered_like_any_error() {
    let api = Api::start().await;
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let fewer: String = (0..95).map(|n| format!("X-{n}: 1\r\n")).collect();
    let host = "Host: test\r\nConnection: close\r\n";
    let (invalid, large) = ("Request is not valid HTTP/1.1", "Request headers too large");
    for (request, status, message) in [
        ("nonsense\r\n\r\n".to_owned(), 400, invalid),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400, invalid),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400, invalid),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n".to_owned(), 400, invalid),
        (format!("GET /healthz HTTP/1.1\r\n{host}No colon\r\n\r\n"), 400, invalid),
        (format!("GET /healthz HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"), 400, invalid),
        (format!("GET /healthz HTTP/1.1\r\n{host}{many}\r\n"), 431, large),
        (format!("GET /healthz HTTP/1.1\r\n{host}{fewer}\r\n"), 431, large),
        (format!("GET /healthz HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(40_000)), 431, large),
        (format!("GET /healthz HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(300_000)), 431, large),
    ] {
        // After another request of the same connection it is no different.
        let before = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".to_owned();
        for (requests, answers) in [(request.clone(), 1), (before + &request, 2)] {
            let answered = answer(&api, requests).await;
            let each: Vec<&str> = answered.split("HTTP/1.1 ").skip(1).collect();
            assert_eq!(each.len(), answers, "{request:.40}: {answered}");
            let (head, body) = each[answers - 1].split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("{status} ")), "{request:.40}: {answered}");
            let head = head.to_ascii_lowercase();
            for header in ["content-type: application/json", "x-content-type-options: nosniff", "x-request-id: "] {
                assert!(head.contains(header), "{request:.40}: {answered}");
            }
            assert_eq!(body, json!({ "message": message }).to_string(), "{request:.40}");
        }
    }
}

#[tokio::test]
async fn a_request_names_its_host() {
    let api = Api::start().await;
    let answered = answer(&api, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(
        answered.starts_with("HTTP/1.1 400 ") && answered.contains(r#""field":"Host","code":"required""#),
        "{answered}"
    );
    assert!(answer(&api, "GET /healthz HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
    let twice = answer(&api, api.head("GET", "/dev/crm/me", "Host: other\r\nConnection: close\r\n")).await;
    assert!(twice.starts_with("HTTP/1.1 400 ") && twice.contains(r#""field":"Host","code":"duplicate""#), "{twice}");
}

#[tokio::test]
async fn a_body_in_broken_chunks_is_a_bad_request() {
    let api = Api::start().await;
    let json = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    let form = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    for (path, headers) in [("/dev/crm/leads", json), ("/dev/crm/leads/import", form)] {
        let answered = answer(&api, api.head("POST", path, headers) + "no length\r\n").await;
        assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
        assert!(answered.contains("content-type: application/json"), "{answered}");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let api = Api::start_with(|settings| {
        settings.api.min_body_bytes_per_s = 10_000;
        settings.api.body_window_s = 1;
    })
    .await;
    let form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n";
    let begin = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.csv\"\r\n\r\nName,Email\r\n";
    let mut stream = connect(&api).await;
    stream.write_all((api.head("POST", "/dev/crm/leads/import", form) + begin).as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        // It never stops sending.
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answered = Vec::new();
    tokio::select! {
        () = drip => {}
        read = reader.read_to_end(&mut answered) => drop(read.unwrap()),
    }
    let answered = String::from_utf8(answered).unwrap();
    assert!(answered.starts_with("HTTP/1.1 408 "), "{answered}");
    assert!(answered.ends_with("{\"message\":\"Request body did not arrive in time\"}"), "{answered}");
}

/// Records that are much more than any buffer on the way to their reader.
async fn create_large_leads(api: &Api) {
    let statement =
        "INSERT INTO leads (workspace_id, id, name, email, email_key, source, status, score, custom_fields, search_vector,
                created_at, updated_at)
        SELECT $1, gen_random_uuid(), 'Ann', n || '@example.com', n || '@example.com', 'other', 'new', 0,
               jsonb_build_object('text', (SELECT string_agg(md5(n || '-' || m), '') FROM generate_series(1, 1000) m)),
               '', now(), now()
        FROM generate_series(1, 700) n";
    sqlx::query(statement).bind(api.workspace_id).execute(&mut api.connection().await).await.unwrap();
}

/// Asks for all leads, and takes nothing of them.
async fn ask_for_all(api: &Api, path: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(api.address).await.unwrap();
    stream.write_all(api.head("GET", path, "").as_bytes()).await.unwrap();
    stream
}

/// Waits until the server has ended the connection, without taking anything.
async fn until_reset(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the connection is not ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_disconnected() {
    let api = Api::start_with(|settings| settings.api.write_timeout_s = 1).await;
    create_large_leads(&api).await;
    for path in ["/dev/crm/leads", "/dev/crm/leads?limit=700", "/dev/crm/leads/export"] {
        let mut stream = ask_for_all(&api, path).await;
        let took = until_reset(&mut stream).await;
        assert!(took >= Duration::from_millis(900), "{path}: {took:?}");
    }
    // One that takes a little now and then is not.
    let mut stream = ask_for_all(&api, "/dev/crm/leads").await;
    let (begun, mut taken) = (Instant::now(), 0);
    let mut some = vec![0; 512 * 1024];
    while begun.elapsed() < Duration::from_secs(3) {
        let read = stream.read(&mut some).await.unwrap();
        assert!(read > 0);
        taken += read;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(taken > 100_000, "{taken}");
}

#[tokio::test]
async fn a_revoked_key_ends_what_is_being_sent() {
    let mut api = Api::start().await;
    api.leaves_jobs("import_leads");
    create_large_leads(&api).await;
    let job = api.import("Name,Email\nAnn,ann@example.com\n").await;
    let (secret, key) = api.new_key(None).await;
    let events = format!("/dev/crm/jobs/{}/events", job["id"].as_str().unwrap());
    api.key = secret;
    let mut blocked = [ask_for_all(&api, "/dev/crm/leads").await, ask_for_all(&api, "/dev/crm/leads/export").await];
    let mut events = api.get(&events).send().await.unwrap();
    assert!(events.chunk().await.unwrap().unwrap().starts_with(b"event: progress"));
    for stream in &mut blocked {
        stream.readable().await.unwrap();
    }

    let begun = Instant::now();
    shared::accounts::api_keys::revoke_any(&mut api.connection().await, api.workspace_id, key.id).await.unwrap();
    let ended = async { while let Ok(Some(_)) = events.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the events end");
    for stream in &mut blocked {
        until_reset(stream).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// A connection that has been answered, and stays open.
async fn open(api: &Api) -> TcpStream {
    let mut stream = connect(api).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

#[tokio::test]
async fn beyond_the_limit_only_health_checks_are_answered() {
    let api = Api::start_with(|settings| {
        settings.api.max_connections = 4;
        settings.api.max_connections_per_address = 4;
    })
    .await;
    let mut seated = Vec::new();
    for _ in 0..4 {
        seated.push(open(&api).await);
    }
    let refused = answer(&api, api.head("GET", "/dev/crm/leads", "")).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(refused.ends_with("{\"message\":\"Too many open connections\"}"), "{refused}");
    for path in ["/healthz", "/readyz"] {
        let answered = answer(&api, format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{path}: {answered}");
    }
    // Others who wait in silence do not keep a health check from being heard, and are sent away soon.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(&api).await);
    }
    let answered = answer(&api, "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    for mut stream in silent {
        let _ = tokio::time::timeout(Duration::from_secs(15), stream.read(&mut [0])).await.expect("it is closed");
    }
    drop(seated.pop());
    support::until(200, || api.get("/dev/crm/leads")).await;
}

#[tokio::test]
async fn one_address_does_not_take_all_connections_unless_it_is_a_proxy() {
    for (trusted, expected) in [(None, 503), (Some("127.0.0.0/8"), 200)] {
        let api = Api::start_with(|settings| {
            settings.api.max_connections = 8;
            settings.api.trusted_proxies = trusted.map(|it| it.to_owned().try_into().unwrap()).into_iter().collect();
        })
        .await;
        // A quarter.
        let _seated = [open(&api).await, open(&api).await];
        let answered = answer(&api, api.head("GET", "/dev/crm/leads", "Connection: close\r\n")).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {expected} ")), "{answered}");
    }
}

#[tokio::test]
async fn browsers_and_caches_learn_what_they_may_do_with_an_answer() {
    let api = Api::start().await;
    let lead = api.create("/dev/crm/leads", json!({ "name": "Ann", "email": "ann@example.com" })).await;
    let record = format!("/dev/crm/leads/{}", support::id(&lead));
    for (path, cached) in [
        (record.as_str(), "no-cache"),
        ("/dev/crm/leads", "no-store"),
        ("/dev/crm/leads?limit=1", "no-store"),
        ("/dev/crm/leads/export", "no-store"),
        ("/dev/crm/reports/leads", "no-store"),
        ("/dev/crm/nothing", "no-store"),
        ("/healthz", "no-store"),
        ("/openapi.json", "no-cache"),
        ("/docs/", "no-store"),
        ("/feedback/nothing", "no-store"),
    ] {
        let answer = api.get(path).send().await.unwrap();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers()["cache-control"], cached, "{path}");
    }
    let tag = api.get(&record).send().await.unwrap().headers()["etag"].clone();
    let known = api.get(&record).header("if-none-match", tag).send().await.unwrap();
    assert_eq!((known.status().as_u16(), &known.headers()["cache-control"]), (304, &"no-cache".parse().unwrap()));
}

#[tokio::test]
async fn pages_run_nothing_from_elsewhere_and_stand_in_no_frame() {
    let api = Api::start().await;
    for path in ["/docs/", "/docs/swagger-initializer.js", "/feedback/nothing", "/unsubscribe/nothing"] {
        let answer = api.get(path).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("script-src 'unsafe"), "{policy}");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(answer.headers()["x-frame-options"], "DENY", "{path}");
    }
    // No key stays in the browser.
    let script = api.get("/docs/swagger-initializer.js").send().await.unwrap().text().await.unwrap();
    assert!(script.contains("SwaggerUIBundle") && !script.contains("persistAuthorization\": true"), "{script}");
}

#[tokio::test]
async fn pages_of_large_records_are_whole() {
    let api = Api::start().await;
    create_large_leads(&api).await;
    let ids = |page: &serde_json::Value| support::each(page, "id").into_iter().map(str::to_owned).collect::<Vec<_>>();
    let all = ids(&api.read("/dev/crm/leads").await);
    assert_eq!(all.len(), 700);
    let mut paged = Vec::new();
    let mut path = Some("/dev/crm/leads?limit=600".to_owned());
    while let Some(next) = path {
        let answer = api.get(&next).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        path = link.map(|link| link.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned());
        let page = support::body(answer, 200).await;
        assert_eq!(page[0]["custom_fields"]["text"].as_str().unwrap().len(), 32_000);
        paged.extend(ids(&page));
    }
    assert_eq!(paged, all);
    let export = api.get("/dev/crm/leads/export").send().await.unwrap().text().await.unwrap();
    assert_eq!(export.lines().count(), 701);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_died_behind_a_proxy_is_unavailable_and_no_defect() {
    let api = Api::start().await;
    let direct = api.database.url();
    let proxy = Proxy::start(direct, Mode::Close).await;
    let ask = async |address: std::net::SocketAddr, path: &str| {
        let request = reqwest::Client::new().get(format!("http://{address}{path}")).bearer_auth(&api.key);
        request.send().await.unwrap().status().as_u16()
    };
    let quick = |url: &str| {
        let mut settings = support::settings(url);
        settings.database.acquire_timeout_s = 1;
        settings
    };
    let served = support::serve(quick(&proxy.url(direct))).await;
    let address = served.address;
    for mode in [Mode::Close, Mode::Garbage, Mode::Silence] {
        // As a process that finds it so, and as one that was connected before.
        proxy.set(mode);
        assert_eq!(ask(address, "/dev/crm/leads").await, 503, "{mode:?}");
        assert_eq!(ask(address, "/readyz").await, 503, "{mode:?}");
        proxy.set(Mode::Forward);
        assert_eq!(ask(address, "/readyz").await, 200, "{mode:?}");
        assert_eq!(ask(address, "/dev/crm/leads").await, 200, "{mode:?}");
    }
    // The server has no TLS.
    let separator = if direct.contains('?') { '&' } else { '?' };
    let served = support::serve(quick(&format!("{direct}{separator}sslmode=require"))).await;
    let address = served.address;
    assert_eq!(ask(address, "/dev/crm/leads").await, 503);
    assert_eq!(ask(address, "/readyz").await, 503);
}
