//! Hostile templates, each of which was or could have been expensive: the corpus of the tests and
//! of `cargo dev bench templates`.

use serde_json::{Value, json};

use super::{Event, Renderer, Template, check, samples};

/// A template that is meant to exhaust a resource.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What the template exercises.
    pub name: &'static str,
    event: Event,
    body: String,
    /// Replaces the lead's name in the sample.
    name_of_lead: Option<String>,
}

impl Hostile {
    /// Checks the template as when it is saved, and renders it as a worker would if it had been
    /// saved under older rules. Returns whether the check rejected it.
    pub fn run(&self) -> bool {
        let template = Template { subject: self.body.chars().take(200).collect(), body: self.body.clone() };
        let is_rejected = !check(self.event, &template).is_empty();
        let mut renderer = Renderer::none();
        renderer.add("hostile", self.event, "Hello", &self.body);
        // The result does not matter here, only that rendering ends.
        drop(renderer.render("hostile", &self.context()));
        is_rejected
    }

    /// The body of the template.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The variables to render the template with.
    pub fn context(&self) -> Value {
        let mut context = samples::full(self.event);
        if let Some(name) = &self.name_of_lead {
            context["lead"]["name"] = json!(name);
        }
        if self.event == Event::Followups {
            context = samples::large(self.event);
        }
        context
    }
}

/// Repeats a text as often as it fits into a body.
fn fill(before: &str, unit: &str, after: &str) -> String {
    let room = 10_000_usize.saturating_sub(before.len() + after.len());
    format!("{before}{}{after}", unit.repeat(room / unit.len().max(1)))
}

/// Returns all hostile templates.
pub fn corpus() -> Vec<Hostile> {
    let nurture = |name, body: String| Hostile { name, event: Event::Nurture, body, name_of_lead: None };
    let digest = |name, body: String| Hostile { name, event: Event::Followups, body, name_of_lead: None };
    let named = |name, body: &str, value: String| Hostile {
        name,
        event: Event::Nurture,
        body: body.to_owned(),
        name_of_lead: Some(value),
    };
    let doubled = "{% set a = 'aaaaaaaa' %}".to_owned() + &"{% set a = a ~ a %}".repeat(16);
    let loops = "{% for i in a %}{% for j in a %}";
    let digest_of = |unit: &str| fill("", &format!("{{% for i in items %}}{unit}{{% endfor %}}"), "");
    vec![
        nurture("minus signs", fill("{{ ", "-", "1 }}")),
        nurture("minus signs with blanks", fill("{{ ", "- ", "1 }}")),
        nurture("not", fill("{{ ", "not ", "1 }}")),
        nurture("open parentheses", fill("{{ ", "(", "")),
        nurture("parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(4_900), ")".repeat(4_900))),
        nurture("lists", format!("{{{{ {}1{} }}}}", "[".repeat(4_900), "]".repeat(4_900))),
        nurture("maps", format!("{{{{ {}1{} }}}}", "{1:".repeat(2_000), "}".repeat(2_000))),
        nurture("attributes", fill("{{ lead", ".a", " }}")),
        nurture("subscripts", fill("{{ lead", "['a']", " }}")),
        nurture("nested subscripts", fill("{{ lead", "[lead", " }}")),
        nurture("calls", fill("{{ lead", "()", " }}")),
        nurture("nested calls", fill("{{ ", "lead(", " }}")),
        nurture("filters", fill("{{ lead.name", "|trim", " }}")),
        nurture("nested filter arguments", fill("{{ ", "1|default(", " }}")),
        nurture("tests", fill("{{ lead", " is none", " }}")),
        nurture("tests of tests", fill("{{ 1", " is eq -", "1 }}")),
        nurture("sums", fill("{{ 1", "+1", " }}")),
        nurture("powers", fill("{{ 2", "**2", " }}")),
        nurture("joins", fill("{{ 1", "~1", " }}")),
        nurture("comparisons", fill("{{ 1", "<2", " }}")),
        nurture("or", fill("{{ 1", " or 1", " }}")),
        nurture("inline if", fill("{{ 1", " if 1 else 1", " }}")),
        nurture("inline if without else", fill("{{ 1", " if 1", " }}")),
        nurture("nested if", fill("", "{% if 1 %}", "")),
        nurture("nested for", fill("", "{% for i in lead.name %}", "")),
        nurture("elif", fill("{% if 1 %}", "{% elif 1 %}", "{% endif %}")),
        nurture("targets", fill("{% for ", "(", "a")),
        nurture("set targets", fill("{% set ", "(", "a")),
        nurture("with", fill("", "{% with %}", "")),
        nurture("filter blocks", fill("", "{% filter upper %}", "")),
        nurture("set blocks", fill("", "{% set a %}", "")),
        nurture("macros", fill("", "{% macro a() %}", "")),
        nurture("raw", fill("{% raw %}", "{% ", "{% endraw %}")),
        nurture("comments", fill("", "{#", "")),
        nurture("braces", fill("", "{", "")),
        nurture("open tags", fill("", "{{ ", "")),
        nurture("quotes", fill("{{ ", "'\\'", " }}")),
        nurture("recursive loop", "{% for i in [1] recursive %}{{ loop([i]) }}{% endfor %}".into()),
        nurture("range", "{% for i in range(1000000000) %}x{% endfor %}".into()),
        nurture("repeated text", "{{ ('x' * 100000000)|length }}".into()),
        nurture("repeated list", "{{ (['x'] * 1000000000) ~ '' }}".into()),
        nurture("compared repeated lists", "{{ [[1] * 1000000000] == [[1] * 1000000000] }}".into()),
        nurture("doubled", format!("{doubled}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(40))),
        nurture("doubled lists", "{% set a = [1] %}".to_owned() + &"{% set a = [a, a] %}".repeat(60) + "{{ a == a }}"),
        nurture("added lists", "{% set a = [1] %}".to_owned() + &"{% set a = a + a %}".repeat(60) + "{{ a|length }}"),
        nurture("is upper", format!("{doubled}{loops}{{% if a is upper %}}{{% endif %}}{{% endfor %}}{{% endfor %}}")),
        nurture("is lower", format!("{doubled}{}", "{{ a is lower }}".repeat(500))),
        nurture("is startingwith", format!("{doubled}{}", "{{ a is startingwith a }}".repeat(350))),
        nurture("is eq", format!("{doubled}{loops}{{% if a is eq a %}}{{% endif %}}{{% endfor %}}{{% endfor %}}")),
        nurture(
            "compared texts",
            format!("{doubled}{loops}{{% if a == a %}}{{% endif %}}{{% endfor %}}{{% endfor %}}"),
        ),
        nurture("ordered texts", format!("{doubled}{}", "{{ a < a ~ a }}".repeat(500))),
        nurture(
            "compared to a literal",
            format!("{doubled}{loops}{{% if a == 'x' %}}{{% endif %}}{{% endfor %}}{{% endfor %}}"),
        ),
        nurture(
            "contained texts",
            format!("{doubled}{loops}{{% if 'b' in a %}}{{% endif %}}{{% endfor %}}{{% endfor %}}"),
        ),
        nurture("changed", format!("{doubled}{loops}{{{{ loop.changed(a) }}}}{{% endfor %}}{{% endfor %}}")),
        nurture("last characters", format!("{doubled}{loops}{{{{ a[-1] }}}}{{% endfor %}}{{% endfor %}}")),
        nurture("slices", format!("{doubled}{loops}{{{{ a[:1] }}}}{{% endfor %}}{{% endfor %}}")),
        nurture("upper", format!("{doubled}{}", "{% set b = a|upper %}".repeat(400))),
        nurture(
            "title",
            "{% set a = 'ΣΑΣ ß ' %}".to_owned() + &"{% set a = a ~ a %}".repeat(15) + &"{{ a|title }}".repeat(400),
        ),
        nurture("trimmed characters", format!("{doubled}{}", "{{ a|trim('bcdefghijklmnopqrstuvwxyza') }}".repeat(200))),
        nurture("replace", format!("{doubled}{{{{ a|replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}}}")),
        nurture("replace nothing", format!("{doubled}{{{{ a|replace('', a) }}}}")),
        nurture("truncate", format!("{doubled}{}", "{{ a|truncate(400000) }}".repeat(300))),
        nurture("length", format!("{doubled}{loops}{{% if a|length > 3 %}}{{% endif %}}{{% endfor %}}{{% endfor %}}")),
        nurture("reverse", format!("{doubled}{}", "{{ a|reverse|last }}".repeat(300))),
        nurture("format", "{{ '%1000000000d'|format(1) }}".into()),
        nurture("indent", format!("{doubled}{{{{ a|indent(1000000) }}}}")),
        nurture("split", format!("{doubled}{}", "{{ a|split('')|join('b')|length }}".repeat(200))),
        nurture("round", "{{ 1.5|round(1000000000) }}".into()),
        nurture("many tags", fill("", "{{1}}", "")),
        nurture("many links", fill("", "http://a ", "")),
        nurture("links in a row", fill("", "https://.", "")),
        nurture("buttons", fill("", "](", "")),
        digest("sort", digest_of("{% set b = items|sort(attribute='name') %}")),
        digest("sorts", fill("", "{% set b = items|sort(attribute='name') %}", "")),
        digest("unique", fill("", "{% set b = items|unique(attribute='name') %}", "")),
        digest("groupby", fill("", "{% set b = items|groupby('name') %}", "")),
        digest("map", fill("", "{% set b = items|map(attribute='name') %}", "")),
        digest("map upper", fill("", "{% set b = items|map(attribute='name')|map('upper') %}", "")),
        digest("selectattr", fill("", "{% set b = items|selectattr('name', 'upper') %}", "")),
        digest("items as text", fill("", "{% set b = items ~ '' %}", "")),
        digest("items in a text", fill("", "{{ items in 'x' }}", "")),
        digest("a long digest", fill("{% for i in items %}", "{{ i.name }}", "{% endfor %}")),
        digest("titles", digest_of("{{ i.name|title|upper|lower }}")),
        named("links in a name", "{{ lead.name }}", "http".repeat(70_000)),
        named("links of a name", "{{ lead.name }}", "https://a".repeat(30_000)),
        named("empty links of a name", "{{ lead.name }}", "https://".repeat(35_000)),
        named("www in a name", "{{ lead.name }}", "www.".repeat(70_000)),
        named("colons in a name", "{{ lead.name }}", ":".repeat(100_000) + &"/".repeat(180_000)),
        named("lines of a name", "- {{ lead.name }}", "\n- [a](b)".repeat(30_000)),
        named("what HTML escapes", "{{ lead.name }}", "&".repeat(280_000)),
    ]
    .into_iter()
    .map(|hostile| Hostile { body: hostile.body.chars().take(10_000).collect(), ..hostile })
    .collect()
}
