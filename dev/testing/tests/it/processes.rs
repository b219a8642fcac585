use std::process::Stdio;
use std::time::{Duration, Instant};

use testing::supervise::{Ending, Supervised};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A shell that runs `script`, and the lines it prints.
fn shell(script: &str, ending: Ending) -> (Supervised, UnboundedReceiver<String>) {
    let mut process = Supervised::start("sh", ending, |command| {
        command.args(["-c", script]).stdout(Stdio::piped());
    })
    .unwrap();
    let (sender, lines) = unbounded_channel();
    process.hand_on_lines(move |line| {
        let _ = sender.send(line);
    });
    (process, lines)
}

#[tokio::test]
async fn the_end_of_a_child_is_described() {
    let (mut successful, mut lines) = shell("echo done", Ending::TERMINATE);
    assert_eq!(lines.recv().await.unwrap(), "done");
    assert!(successful.ended().await.unwrap().is_success());

    let (mut failed, _) = shell("exit 3", Ending::TERMINATE);
    assert_eq!(failed.ended().await.unwrap().to_string(), "ended with exit status 3");

    let (mut killed, _) = shell("kill -9 $$", Ending::TERMINATE);
    assert_eq!(killed.ended().await.unwrap().to_string(), "was ended by signal 9");

    let mut missing = Supervised::start("/no/such/program", Ending::TERMINATE, |command| {
        command.stderr(Stdio::null());
    })
    .unwrap();
    assert_eq!(missing.ended().await.unwrap().to_string(), "could not be started");
}

#[tokio::test]
async fn dropping_the_handle_stops_the_child() {
    let (process, mut lines) =
        shell("trap 'echo asked; exit' TERM; echo started; while :; do sleep 0.05; done", Ending::TERMINATE);
    assert_eq!(lines.recv().await.unwrap(), "started");
    drop(process);
    assert_eq!(lines.recv().await.unwrap(), "asked");
    assert_eq!(lines.recv().await, None);
}

#[tokio::test]
async fn a_child_that_does_not_end_is_killed() {
    let ending = Ending { signal: "TERM", grace: Duration::from_secs(1) };
    let (mut process, mut lines) = shell("trap '' TERM; echo started; while :; do sleep 0.05; done", ending);
    assert_eq!(lines.recv().await.unwrap(), "started");
    let asked = Instant::now();
    assert_eq!(process.stop().await.unwrap().to_string(), "was ended by signal 9");
    assert!(asked.elapsed() >= ending.grace);
}

#[tokio::test]
async fn a_suspended_child_can_be_stopped() {
    let (mut process, mut lines) = shell("echo $$; while :; do sleep 0.05; done", Ending::TERMINATE);
    lines.recv().await.unwrap();
    process.signal("STOP");
    assert_eq!(process.stop().await.unwrap().to_string(), "was ended by signal 15");
}
