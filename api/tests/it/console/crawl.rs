//! Visits every page that links lead to.

use std::collections::{BTreeMap, VecDeque};

use regex::Regex;

use super::support::{Shown, Visitor};

/// The most pages of one kind, such as those of leads.
const OF_A_KIND: usize = 3;

/// A tag of a page, with its attributes as they are written.
pub struct Tag {
    pub name: String,
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// The tags of a page, in their order.
pub fn tags(html: &str) -> Vec<Tag> {
    let tag = Regex::new(r#"<([a-zA-Z][^\s/>]*)((?:[^>"']|"[^"]*"|'[^']*')*)>"#).unwrap();
    let attribute = Regex::new(r#"([^\s=/"'>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+)))?"#).unwrap();
    let value = |found: &regex::Captures<'_>| {
        let given = (2..=4).find_map(|group| found.get(group)).map_or("", |value| value.as_str());
        given
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&")
    };
    tag.captures_iter(html)
        .map(|found| Tag {
            name: found[1].to_ascii_lowercase(),
            attributes: attribute.captures_iter(&found[2]).map(|pair| (pair[1].to_lowercase(), value(&pair))).collect(),
        })
        .collect()
}

/// Visits the pages of the console, by links from the overview on, some of each kind.
pub async fn crawl(visitor: &Visitor) -> BTreeMap<String, Shown> {
    let (mut pages, mut kinds) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    let mut links = VecDeque::from(["/console".to_owned()]);
    while let Some(path) = links.pop_front() {
        let of_kind = kinds.entry(kind(&path)).or_default();
        if pages.contains_key(&path) || *of_kind >= OF_A_KIND {
            continue;
        }
        *of_kind += 1;
        let shown = visitor.visit(&path).await;
        if shown.status == 303 {
            links.push_back(shown.leads_to().to_owned());
            continue;
        }
        let own = tags(&shown.html).into_iter().filter(|tag| matches!(tag.name.as_str(), "a" | "iframe"));
        let own = own.filter_map(|tag| tag.attribute("href").or(tag.attribute("src")).map(str::to_owned));
        links.extend(
            own.map(|link| link.split('#').next().unwrap().to_owned()).filter(|link| link.starts_with("/console")),
        );
        pages.insert(path, shown);
    }
    pages
}

/// What a path is about: its ids and the values of its parameters do not count.
fn kind(path: &str) -> String {
    let ids = Regex::new("[0-9a-f]{8}-[0-9a-f-]{27}").unwrap().replace_all(path, "{id}");
    Regex::new("=[^&]*").unwrap().replace_all(&ids, "").into_owned()
}

#[test]
fn tags_are_found_with_their_attributes() {
    let found = tags(r#"<a href="/x?a=1&amp;b=2" data-b='c'>1 < 2</a><IMG SRC=x onerror=alert(1)>"#);
    assert_eq!(found[0].attribute("href"), Some("/x?a=1&b=2"));
    assert_eq!((found[1].name.as_str(), found[1].attribute("onerror")), ("img", Some("alert(1)")));
}
