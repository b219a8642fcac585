//! The pages of metrics: their text, their reference, and that they never wait for the database.

mod alerts;
mod database;
mod expressions;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// A page of metrics.
#[derive(Debug, Default, Clone)]
pub struct Page {
    /// The type and the help text of each metric.
    pub families: BTreeMap<String, (String, String)>,
    pub samples: Vec<Sample>,
}

/// A value with its labels.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// If a line is not as the text format says, or a sample has no help text and type before it.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                let is_new = page.families.insert(name.into(), (String::new(), help.into())).is_none();
                assert!(is_new, "{name} is there twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                page.families.get_mut(name).unwrap_or_else(|| panic!("{name} has no help text")).0 = kind.into();
            } else {
                let sample = Sample::parse(line);
                assert!(page.families.contains_key(page.family(&sample.name)), "{line} belongs to no metric");
                page.samples.push(sample);
            }
        }
        page
    }

    /// The metric of a sample: histograms have several.
    fn family<'a>(&self, name: &'a str) -> &'a str {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        of_histogram
            .filter(|name| self.families.get(*name).is_some_and(|(kind, _)| kind == "histogram"))
            .unwrap_or(name)
    }

    /// The labels of each metric that has a sample.
    pub fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut labels = BTreeMap::<String, BTreeSet<String>>::new();
        for sample in &self.samples {
            let names = sample.labels.keys().filter(|name| *name != "le").cloned();
            labels.entry(self.family(&sample.name).to_owned()).or_default().extend(names);
        }
        labels
    }

    /// The value of a series, by the name and labels of its line.
    pub fn value(&self, series: &str) -> Option<f64> {
        let wanted = Sample::parse(&format!("{series} 0"));
        let found = self.samples.iter().find(|it| it.name == wanted.name && it.labels == wanted.labels);
        found.map(|sample| sample.value)
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        let (name, labels) = series.strip_suffix('}').and_then(|it| it.split_once('{')).unwrap_or((series, ""));
        let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line:?} has a wrong label"));
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
    }
}

/// A page of an admin port, given without `http://`, or with it.
async fn text(admin: &str, path: &str) -> String {
    let url = format!("http://{}{path}", admin.trim_start_matches("http://"));
    let started = Instant::now();
    loop {
        match reqwest::get(&url).await {
            Ok(answer) => {
                assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
                return answer.text().await.unwrap();
            }
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the page of the cluster is as wanted.
async fn cluster(admin: &str, what: &str, holds: impl Fn(&Page) -> bool) -> Page {
    let started = Instant::now();
    loop {
        let page = Page::parse(&text(admin, "/metrics/cluster").await);
        if holds(&page) {
            return page;
        }
        assert!(started.elapsed() < PATIENCE, "not in time: {what}: {page:#?}");
        sleep(Duration::from_millis(200)).await;
    }
}
