//! Load generation with `wrk`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::harness::succeed;

/// The throughput and latency of a URL.
#[derive(Debug)]
pub struct Load {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Load {
    /// The load as a sample.
    pub fn to_json(&self) -> Value {
        json!({ "requests_per_s": self.per_second, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms })
    }
}

/// Fails early if `wrk` is not installed.
pub async fn find_wrk() -> Result<()> {
    let found = Command::new("wrk").arg("--version").output().await;
    found.context("this benchmark needs wrk: apt-get install wrk, dnf install wrk or brew install wrk")?;
    Ok(())
}

/// A request that is sent repeatedly.
#[derive(Debug)]
pub struct Request {
    pub method: &'static str,
    /// The URL, to which one of the ids is appended if there are any.
    pub url: String,
    /// The body, in which a unique number replaces `%s`.
    pub body: String,
    /// The ids as Lua strings.
    pub ids: Vec<String>,
}

/// Requests a URL repeatedly over some connections, for whole seconds.
pub async fn wrk(url: &str, key: &str, connections: usize, time: Duration) -> Result<Load> {
    drive(&[url], key, connections, time).await
}

/// Sends a request repeatedly over some connections, for whole seconds.
pub async fn wrk_requests(
    dir: &Path,
    key: &str,
    connections: usize,
    time: Duration,
    Request { method, url, body, ids }: &Request,
) -> Result<Load> {
    let script = dir.join("requests.lua");
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let lua = format!(
        r#"
local ids = {{{ids}}}
local body = [[{body}]]
local count = 0
local thread = 0
function setup(t) thread = thread + 1; t:set("number", thread) end
function init() math.randomseed(os.time() + number); base = os.time() % 1000000 * 1000 + number end
function request()
  count = count + 1
  local path = "/{path}"
  if #ids > 0 then path = path .. ids[math.random(#ids)] end
  local json = nil
  if body ~= "" then json = string.gsub(body, "%%s", string.format("%d%09d", base, count)) end
  return wrk.format("{method}", path, {{["Content-Type"] = "application/json", ["Authorization"] = wrk.headers["Authorization"]}}, json)
end
"#,
        ids = ids.join(",")
    );
    std::fs::write(&script, lua)?;
    drive(&["-s", &script.display().to_string(), url], key, connections, time).await
}

async fn drive(last: &[&str], key: &str, connections: usize, time: Duration) -> Result<Load> {
    let threads = connections.min(2).to_string();
    let (connections, time) = (connections.to_string(), format!("{}s", time.as_secs().max(1)));
    let key = format!("Authorization: Bearer {key}");
    let mut command = Command::new("wrk");
    command.args(["--latency", "-t", &threads, "-c", &connections, "-d", &time, "-H", &key]).args(last);
    let report = succeed(&mut command).await?;
    ensure!(!report.contains("Non-2xx"), "{last:?} returned errors: {report}");
    read(&report).with_context(|| format!("unexpected report of wrk: {report}"))
}

fn read(report: &str) -> Option<Load> {
    // The percentages before this line have another meaning.
    let (_, report) = report.split_once("Latency Distribution")?;
    let after = |name: &str| Some(report.split_once(name)?.1.split_whitespace().next()?.to_owned());
    Some(Load {
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_ms: milliseconds(&after("50%")?)?,
        p99_ms: milliseconds(&after("99%")?)?,
    })
}

/// Reads times such as `310.00us`, `1.25ms` and `1.02s`.
fn milliseconds(time: &str) -> Option<f64> {
    let unit = time.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = time[..unit].parse().ok()?;
    match &time[unit..] {
        "us" => Some(number / 1000.0),
        "ms" => Some(number),
        "s" => Some(number * 1000.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_parsed() {
        let report = "Running 4s test @ http://127.0.0.1:1/\n  2 threads and 16 connections\n  Thread Stats   Avg      Stdev\n    \
            Latency     1.49ms  617.00us  11.87ms   67.50%\n  Latency Distribution\n     50%    1.39ms\n     75%    1.80ms\n     \
            90%    2.25ms\n     99%    3.44ms\n  42934 requests in 4.00s, 29.5MB read\nRequests/sec:  10729.59\n";
        let load = read(report).unwrap();
        assert_eq!((load.per_second, load.p50_ms, load.p99_ms), (10729.59, 1.39, 3.44));
        assert_eq!(milliseconds("310.50us"), Some(0.3105));
    }
}
