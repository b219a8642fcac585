//! Finding Chromium, and starting it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::supervise::{Ending, Supervised};

/// The variable that names the program.
pub(super) const VARIABLE: &str = "CHROMIUM";
/// The names of the program in `PATH`, and its usual place on macOS.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const MACOS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// Generous, since many tests share few cores.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What Chromium prints before its address.
const LISTENING: &str = "DevTools listening on ";

/// Runs Chromium, and deletes its profile afterwards, however it ended.
const SCRIPT: &str = r#"
profile=$1
shift
trap 'ending=1; [ -z "$child" ] || kill "$child"' TERM
"$@" --user-data-dir="$profile" about:blank &
child=$!
[ -z "$ending" ] || kill "$child"
# A signal ends the first wait.
wait "$child"
wait "$child"
# Its last processes may still write.
rm -rf "$profile" || { sleep 1; rm -rf "$profile"; }
"#;
const ENDING: Ending = Ending { signal: "TERM", grace: Duration::from_secs(10) };

/// A browser of its own behaves the same on every machine, and asks nobody for anything.
const SWITCHES: [&str; 16] = [
    "--headless",
    "--remote-debugging-port=0",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-component-update",
    "--disable-default-apps",
    // The shared memory of containers is small.
    "--disable-dev-shm-usage",
    "--disable-extensions",
    // A sandboxed frame in a process of its own has begun before anyone hears of its requests.
    "--disable-features=BackForwardCache,IsolateSandboxedIframes,MediaRouter,OptimizationHints,Translate",
    "--disable-gpu",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--lang=en-US",
    "--no-first-run",
];

/// The path of Chromium: the variable's, if it is set, or the first one found.
pub(super) fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name)));
    named.chain(MACOS.map(PathBuf::from)).find(|program| program.is_file())
}

/// A running Chromium.
pub(super) struct Chromium {
    /// Ends Chromium when it is dropped, and when this process ends.
    pub process: Supervised,
    /// The address of its protocol.
    pub address: String,
    /// Its profile, which is deleted when it has ended.
    pub profile: PathBuf,
}

/// Starts Chromium with an empty profile.
///
/// # Errors
/// If it does not start, with what it printed.
pub(super) async fn start(program: PathBuf) -> Result<Chromium> {
    let profile = std::env::temp_dir().join(format!("crm-browser-{:016x}", rand::random::<u64>()));
    let mut process = Supervised::start("/bin/sh", ENDING, |command| {
        command.args(["-c", SCRIPT, "chromium"]).arg(&profile).arg(&program).args(SWITCHES);
        if is_root() {
            // Chromium refuses to run as root inside its sandbox.
            command.arg("--no-sandbox");
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    })?;
    let (output, mut lines) = watch::channel(String::new());
    process.hand_on_lines(move |line| {
        output.send_modify(|lines| {
            lines.push_str(&line);
            lines.push('\n');
        });
    });
    let address = async {
        let found = lines.wait_for(|lines| address_in(lines).is_some()).await.context("its output has ended")?;
        address_in(&found).context("no address")
    };
    let address: Result<String> = timeout(START_LIMIT, address).await.context("it took too long").flatten();
    match address {
        Ok(address) => Ok(Chromium { process, address, profile }),
        Err(error) => bail!("{} does not start: {error:#}:\n{}", program.display(), *lines.borrow()),
    }
}

fn address_in(lines: &str) -> Option<String> {
    lines.lines().find_map(|line| line.strip_prefix(LISTENING)).map(|address| address.trim().to_owned())
}

/// Whether this process runs as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
