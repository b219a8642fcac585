//! The browser does what people do, and reports what a page must not do.

use std::time::Duration;

use testing::browser::{Browser, Look, Page};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const FORM: &str = "<!doctype html><html lang=en><title>Form</title><a href='#form'>Skip</a><main><h1>Form</h1>
    <form id=form action='/saved' method=get>
    <label>Name <input name=name></label>
    <label for=day>Day</label><input id=day type=date name=day>
    <label>Stage <select name=stage><option>New</option><option>Won</option></select></label>
    <fieldset><legend>Rating</legend><label><input type=radio name=rating value=1> Poor</label>
    <label><input type=radio name=rating value=2> Good</label></fieldset>
    <label><input type=checkbox name=agreed> I agree</label>
    <button>Save</button></form></main>";
const ROWS: &str = "<!doctype html><html lang=en><title>Rows</title><main><h1>Rows</h1><table><tr><th scope=col>Name</th>
    <th scope=col>Do</th></tr><tr><td>Ada</td><td><a href='/saved?ada'>Edit</a></td></tr>
    <tr><td>Grace</td><td><a href='/saved?grace'>Edit</a></td></tr></table>
    <label>File <input type=file></label><a href='/file'>Export</a></main>
    <script>document.querySelector('input').onchange = event => event.target.files[0].text().then(text => document.querySelector('h1').innerText = text)</script>";

/// A site, whose page `/saved` is slow and shows what was sent.
async fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let (headers, body) = answer(&path).await;
                let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    site
}

async fn answer(path: &str) -> (String, String) {
    let html = "Content-Type: text/html\r\n";
    let page = |headers: &str, body: &str| (format!("{html}{headers}"), body.to_owned());
    match path.split('?').next().unwrap_or_default() {
        "/favicon.ico" => ("Content-Type: image/png\r\n".to_owned(), "icon".to_owned()),
        "/form" => page("", FORM),
        "/rows" => page("", ROWS),
        "/saved" => {
            // Whoever does not wait for the next page acts on the present one.
            tokio::time::sleep(Duration::from_millis(300)).await;
            page(
                "",
                &format!(
                    "<!doctype html><html lang=en><title>Saved</title><h1>Saved</h1><p>{path}</p><a href=/form>Back</a>"
                ),
            )
        }
        "/file" => (
            "Content-Type: text/csv\r\nContent-Disposition: attachment; filename=leads.csv\r\n".to_owned(),
            "name\nAda\n".to_owned(),
        ),
        "/policy" => page("Content-Security-Policy: default-src 'none'\r\n", "<p style='color: red'>styled"),
        "/error" => page("", "<script>console.error('broken', 7)</script>"),
        "/throws" => page("", "<script>null.value</script>"),
        "/alert" => page("", "<script>alert(1)</script>"),
        "/elsewhere" => page("", "<img alt='' src='http://elsewhere.invalid/a.png'>"),
        "/missing-image" => page("", "<img alt='' src='/nothing.png'>"),
        "/frame" => {
            page("", "<iframe sandbox title=t srcdoc=\"<img alt='' src='http://elsewhere.invalid/b.png'>\"></iframe>")
        }
        "/inaccessible" => page("", "<!doctype html><html><body><img src='data:,'><input>"),
        "/wide" => page("", "<!doctype html><p style='width: 500px'>wide"),
        "/unmarked" => page("", "<style>button { outline: none }</style><button>Save</button>"),
        "/covered" => page("", "<button>Save</button><div style='position: fixed; inset: 0'></div>"),
        "/colors" => page(
            "",
            "<!doctype html><style>@media (prefers-color-scheme: dark) { p { display: none } }</style><p>light<noscript>no scripts</noscript>",
        ),
        _ => (String::new(), String::new()),
    }
}

/// Expects a step to fail, and returns why.
async fn failure(step: impl Future<Output = ()> + Send + 'static) -> String {
    let panic = tokio::spawn(step).await.unwrap_err().into_panic();
    panic.downcast_ref::<String>().unwrap().clone()
}

async fn visit(look: Look) -> Option<Page> {
    Some(Browser::shared().await?.visit(&site().await, look).await)
}

async fn fill_in(page: &Page) {
    page.open("/form").await;
    page.fill("Name", "Ada & Grace").await;
    page.fill("Day", "2026-11-30").await;
    page.choose("Stage", "Won").await;
    page.choose("Rating", "Good").await;
    page.check("I agree").await;
    assert_eq!(page.value("Name").await, "Ada & Grace");
    page.click("Save").await;
    assert_eq!(page.path().await, "/saved?name=Ada+%26+Grace&day=2026-11-30&stage=Won&rating=2&agreed=on");
    page.see("Saved").await;
    page.click("Back").await;
    assert_eq!(page.text("h1").await, "Form");
    page.is_clean().await;
}

#[tokio::test]
async fn a_form_is_filled_in_by_mouse_by_keyboard_and_without_scripts() {
    for look in
        [Look::default(), Look::default().by_keyboard(), Look::default().without_scripts(), Look::default().narrow()]
    {
        let Some(page) = visit(look).await else { return };
        fill_in(&page).await;
    }
}

#[tokio::test]
async fn enter_submits_a_form_and_the_next_page_is_awaited() {
    let Some(page) = visit(Look::default()).await else { return };
    page.open("/form").await;
    page.click("Skip").await;
    page.fill("Name", "x").await;
    page.press("Enter").await;
    assert_eq!(page.text("h1").await, "Saved");
    page.back().await;
    assert_eq!(page.path().await, "/form");
    page.fill("Name", "").await;
    page.submit().await;
    page.at("/saved?name=&").await;
}

#[tokio::test]
async fn elements_are_found_in_their_rows_and_files_go_both_ways() {
    let Some(page) = visit(Look::default()).await else { return };
    page.open("/rows").await;
    page.row("Grace").click("Edit").await;
    assert_eq!(page.path().await, "/saved?grace");
    page.open("/rows").await;
    let (name, content) = page.download("Export").await;
    assert_eq!((name.as_str(), content.as_slice()), ("leads.csv", b"name\nAda\n".as_slice()));
    let file = std::env::temp_dir().join(format!("crm-attach-{}", std::process::id()));
    std::fs::write(&file, "from a file").unwrap();
    page.attach("File", &file).await;
    page.see("from a file").await;
    std::fs::remove_file(&file).unwrap();
    page.is_clean().await;
}

#[tokio::test]
async fn what_a_clean_page_does_not_do_is_reported() {
    let Some(page) = visit(Look::default()).await else { return };
    for (path, problem) in [
        ("/policy", "CSP violation"),
        ("/error", "console: broken 7"),
        ("/throws", "uncaught exception: TypeError"),
        ("/alert", "a dialog opened: 1"),
        ("/elsewhere", "request to another host: http://elsewhere.invalid/a.png"),
        ("/frame", "request to another host: http://elsewhere.invalid/b.png"),
        ("/missing-image", "/nothing.png"),
    ] {
        page.open(path).await;
        let problems = page.take_problems().await;
        assert!(problems.iter().any(|found| found.contains(problem)), "{path}: {problems:?}");
    }
    page.open_expecting("/nothing", 404).await;
    page.is_clean().await;
}

#[tokio::test]
async fn accessibility_and_width_are_checked() {
    let Some(page) = visit(Look::default().narrow()).await else { return };
    page.open("/form").await;
    page.accessible().await;
    page.fits().await;
    let other = page.clone();
    page.open("/inaccessible").await;
    assert!(failure(async move { other.accessible().await }).await.contains("image-alt"));
    let other = page.clone();
    page.open("/wide").await;
    assert!(failure(async move { other.fits().await }).await.contains("/wide is too wide"));
}

#[tokio::test]
async fn an_impossible_step_fails_with_its_reason_and_what_the_page_shows() {
    let Some(page) = visit(Look::default()).await else { return };
    let unmarked = page.looking(Look::default().by_keyboard()).await;
    page.open("/rows").await;
    unmarked.open("/unmarked").await;
    let (ambiguous, covered) = (page.clone(), page.another_tab().await);
    covered.open("/covered").await;
    let failures = tokio::join!(
        failure(async move { page.see("Hopper").await }),
        failure(async move { ambiguous.click("Edit").await }),
        failure(async move { unmarked.click("Save").await }),
        failure(async move { covered.click("Save").await }),
    );
    assert!(failures.0.contains("cannot see \"Hopper\"") && failures.0.contains("Grace"), "{}", failures.0);
    assert!(failures.1.contains("2 elements are named \"Edit\""), "{}", failures.1);
    assert!(failures.2.contains("it has the focus, but nothing shows that"), "{}", failures.2);
    assert!(failures.3.contains("it is covered by <div"), "{}", failures.3);
}

#[tokio::test]
async fn a_look_is_what_the_page_sees() {
    let Some(page) = visit(Look::default()).await else { return };
    page.open("/colors").await;
    assert_eq!(page.text("body").await, "light");
    let page = page.looking(Look::default().without_scripts()).await;
    page.open("/colors").await;
    assert_eq!(page.text("body").await, "lightno scripts");
    let page = page.looking(Look::default().dark().sized(400, 300).scaled(2.0)).await;
    page.open("/colors").await;
    assert_eq!(page.text("body").await, "");
    let picture = page.screenshot().await;
    // The size is in the first part of a PNG.
    assert_eq!((&picture[1..4], &picture[16..24]), (b"PNG".as_slice(), [0, 0, 3, 32, 0, 0, 2, 88].as_slice()));
}
