//! The part of PromQL that the alerts use, over pages that were scraped from programs.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use regex::Regex;
use testing::workspace;

use super::{Page, Sample};

type Labels = BTreeMap<String, String>;

/// What one target said at one time.
#[derive(Debug, Clone)]
pub struct Scrape {
    pub at: Instant,
    /// The samples, with `job`, and with `up`.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// A page of a target, or that it did not answer.
    pub fn of(job: &str, page: Option<Page>) -> Self {
        let up = Sample { name: "up".into(), labels: Labels::new(), value: f64::from(u8::from(page.is_some())) };
        let mut samples: Vec<Sample> = page.unwrap_or_default().samples.into_iter().chain([up]).collect();
        for sample in &mut samples {
            sample.labels.insert("job".into(), job.into());
        }
        Self { at: Instant::now(), samples }
    }
}

/// The expression of an alert in `deploy/prometheus/rules.yaml`.
pub fn of_alert(name: &str) -> String {
    let found = alerts().into_iter().find(|(alert, _)| alert == name);
    found.unwrap_or_else(|| panic!("there is no alert {name}")).1
}

/// The alerts with their expressions.
pub fn alerts() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(workspace::root().join("deploy/prometheus/rules.yaml")).unwrap();
    let mut lines = text.lines().map(str::trim);
    let mut alerts = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("- alert: ") {
            let expression = lines.find_map(|line| line.strip_prefix("expr: ")).unwrap();
            alerts.push((name.to_owned(), expression.to_owned()));
        }
    }
    assert!(!alerts.is_empty());
    alerts
}

/// The series for which an expression holds, by what was scraped from each target, oldest first.
pub fn evaluate(expression: &str, scrapes: &[Vec<Scrape>]) -> Vec<Labels> {
    let mut parser = Parser { rest: expression, scrapes };
    let value = parser.comparison();
    assert!(parser.rest.is_empty(), "{expression}: cannot read {:?}", parser.rest);
    match value {
        Value::Series(series) => series.into_iter().map(|(labels, _)| labels).collect(),
        Value::Number(_) => panic!("{expression} compares nothing"),
    }
}

enum Value {
    Number(f64),
    Series(Vec<(Labels, f64)>),
}

struct Parser<'a> {
    rest: &'a str,
    scrapes: &'a [Vec<Scrape>],
}

impl<'a> Parser<'a> {
    /// Takes a token if it comes next.
    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(after) => {
                self.rest = after.trim_start();
                true
            }
            None => false,
        }
    }

    fn must(&mut self, token: &str) {
        assert!(self.takes(token), "{token:?} is missing before {:?}", self.rest);
    }

    /// Takes the text up to a character, which is taken, too.
    fn until(&mut self, end: char) -> &'a str {
        let (text, rest) = self.rest.split_once(end).unwrap();
        self.rest = rest.trim_start();
        text.trim()
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn comparison(&mut self) -> Value {
        let left = self.arithmetic();
        let holds: fn(f64, f64) -> bool = match () {
            () if self.takes("==") => |a, b| a == b,
            () if self.takes(">=") => |a, b| a >= b,
            () if self.takes(">") => |a, b| a > b,
            () if self.takes("<") => |a, b| a < b,
            () => return left,
        };
        let (Value::Series(mut series), Value::Number(threshold)) = (left, self.arithmetic()) else {
            panic!("only series are compared, and only with numbers");
        };
        series.retain(|(_, value)| holds(*value, threshold));
        Value::Series(series)
    }

    fn arithmetic(&mut self) -> Value {
        let left = self.term();
        let apply: fn(f64, f64) -> f64 = match () {
            () if self.takes("/") => |a, b| a / b,
            () if self.takes("-") => |a, b| a - b,
            () => return left,
        };
        match (left, self.term()) {
            (Value::Number(a), Value::Number(b)) => Value::Number(apply(a, b)),
            (Value::Number(a), Value::Series(b)) => {
                Value::Series(b.into_iter().map(|(labels, b)| (labels, apply(a, b))).collect())
            }
            (Value::Series(a), Value::Number(b)) => {
                Value::Series(a.into_iter().map(|(labels, a)| (labels, apply(a, b))).collect())
            }
            (Value::Series(a), Value::Series(b)) => {
                let matching = |labels: &Labels| b.iter().find(|(of_b, _)| of_b == labels).map(|(_, b)| *b);
                let pairs = a.into_iter().filter_map(|(labels, a)| Some((matching(&labels)?, labels, a)));
                Value::Series(pairs.map(|(b, labels, a)| (labels, apply(a, b))).collect())
            }
        }
    }

    fn term(&mut self) -> Value {
        let word = self.word();
        match word {
            "sum" | "max" | "min" => self.aggregation(word),
            "abs" => {
                self.must("(");
                let Value::Series(series) = self.arithmetic() else { panic!("abs of a number") };
                self.must(")");
                Value::Series(series.into_iter().map(|(labels, value)| (labels, value.abs())).collect())
            }
            "time" => {
                self.must("()");
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                Value::Number(now.as_secs_f64())
            }
            "rate" | "increase" => {
                self.must("(");
                let name = self.word();
                let matchers = self.matchers();
                self.must("[");
                self.until(']');
                self.must(")");
                Value::Series(self.increases(name, &matchers, word == "rate"))
            }
            word if word.parse::<f64>().is_ok() => Value::Number(word.parse().unwrap()),
            name => {
                let matchers = self.matchers();
                Value::Series(self.last(name, &matchers))
            }
        }
    }

    fn aggregation(&mut self, how: &str) -> Value {
        let by: Vec<String> = if self.takes("by") {
            self.must("(");
            self.until(')').split(',').map(|label| label.trim().to_owned()).collect()
        } else {
            Vec::new()
        };
        self.must("(");
        let Value::Series(series) = self.arithmetic() else { panic!("{how} of a number") };
        self.must(")");
        let mut groups = BTreeMap::<Labels, Vec<f64>>::new();
        for (labels, value) in series {
            groups.entry(labels.into_iter().filter(|(name, _)| by.contains(name)).collect()).or_default().push(value);
        }
        let fold = |values: Vec<f64>| match how {
            "sum" => values.into_iter().sum(),
            "max" => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
            _ => values.into_iter().fold(f64::INFINITY, f64::min),
        };
        Value::Series(groups.into_iter().map(|(labels, values)| (labels, fold(values))).collect())
    }

    fn matchers(&mut self) -> Vec<(String, Regex)> {
        if !self.takes("{") {
            return Vec::new();
        }
        let matchers = self.until('}').split(',').map(|matcher| {
            let (name, pattern) = matcher.split_once('=').unwrap();
            let pattern = match pattern.strip_prefix('~') {
                Some(pattern) => pattern.trim_matches('"').to_owned(),
                None => regex::escape(pattern.trim_matches('"')),
            };
            (name.trim().to_owned(), Regex::new(&format!("^(?:{pattern})$")).unwrap())
        });
        matchers.collect()
    }

    /// The last values of series.
    fn last(&self, name: &str, matchers: &[(String, Regex)]) -> Vec<(Labels, f64)> {
        let last = self.scrapes.iter().filter_map(|scrapes| scrapes.last());
        let samples = last.flat_map(|scrape| &scrape.samples).filter(|sample| matches(sample, name, matchers));
        samples.map(|sample| (sample.labels.clone(), sample.value)).collect()
    }

    /// By how much series rose between the first and the last scrape, at all or per second.
    fn increases(&self, name: &str, matchers: &[(String, Regex)], per_second: bool) -> Vec<(Labels, f64)> {
        let mut increases = Vec::new();
        for scrapes in self.scrapes.iter().filter(|scrapes| scrapes.len() > 1) {
            let (first, last) = (&scrapes[0], &scrapes[scrapes.len() - 1]);
            let seconds = if per_second { (last.at - first.at).as_secs_f64() } else { 1.0 };
            for sample in last.samples.iter().filter(|sample| matches(sample, name, matchers)) {
                let before = first.samples.iter().find(|it| it.name == sample.name && it.labels == sample.labels);
                // A series that appeared meanwhile has risen since it appeared, which Prometheus does not see at first.
                let before = before.map_or(0.0, |before| before.value);
                increases.push((sample.labels.clone(), (sample.value - before) / seconds));
            }
        }
        increases
    }
}

fn matches(sample: &Sample, name: &str, matchers: &[(String, Regex)]) -> bool {
    sample.name == name
        && matchers.iter().all(|(label, pattern)| pattern.is_match(sample.labels.get(label).map_or("", String::as_str)))
}

#[test]
fn expressions_are_read_as_prometheus_does() {
    let page = |value: u32| {
        Page::parse(&format!(
            "# HELP a A.\n# TYPE a counter\na{{q=\"x\",k=\"1\"}} {value}\na{{q=\"x\",k=\"2\"}} 3\na{{q=\"y\",k=\"1\"}} 0\n"
        ))
    };
    let scrapes = [vec![Scrape::of("crm-a", Some(page(1))), Scrape::of("crm-a", Some(page(5)))]];
    let found = |expression| evaluate(expression, &scrapes).len();
    assert_eq!(found("a > 2"), 2);
    assert_eq!(found("a{k=\"1\"} > 2"), 1);
    assert_eq!(found("a{q=~\"x|y\",k=\"1\"} == 0"), 1);
    assert_eq!((found("sum by (q) (a) > 7"), found("sum by (q) (a) > 8"), found("max by (k) (a) > 2")), (1, 0, 2));
    assert_eq!((found("increase(a[5m]) > 3"), found("increase(a[5m]) > 4"), found("abs(a) >= 0")), (1, 0, 3));
    assert_eq!(found("sum(rate(a{k=\"1\"}[5m])) / sum(rate(a[5m])) > 0.9"), 1);
    assert_eq!((found("time() - a > 1000"), found("up{job=~\"crm-.*\"} == 1")), (3, 1));
}
