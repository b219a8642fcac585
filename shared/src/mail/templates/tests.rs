use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::accounts::settings::Settings;

fn of(subject: &str, body: &str) -> Template {
    Template { subject: subject.to_owned(), body: body.to_owned() }
}

fn render(name: Event, template: &Template, context: &serde_json::Value) -> Rendered {
    let mut renderer = Renderer::new(Settings::default().all_templates());
    renderer.add(name.as_str(), name, &template.subject, &template.body);
    renderer.render(name.as_str(), context).unwrap()
}

#[test]
fn every_shipped_template_passes_the_check() {
    let settings = Settings::default();
    for step in &settings.nurture_sequence {
        assert_eq!(check(Event::Nurture, &of(&step.subject, &step.body)), []);
    }
    for name in Event::ALL {
        if let Some(template) = settings.templates.get(*name) {
            assert_eq!(check(*name, template), []);
        }
    }
    assert_eq!(check(Event::WebhookDisabled, &webhook_disabled()), []);
}

#[test]
fn the_name_of_a_lead_is_never_interpreted() {
    let name = "{{ 7 * 7 }} <b>[x](https://evil.example)</b> https://evil.example\r\nBcc: all@example.com\u{2}\u{3}";
    let mut context = samples::full(Event::Nurture);
    context["lead"]["first_name"] = json!(name);
    let email = render(
        Event::Nurture,
        &of("Hi {{ lead.first_name }}", "{{ lead.first_name }}\n\n- {{ lead.first_name }}"),
        &context,
    );
    assert_eq!(
        email.subject,
        "Hi {{ 7 * 7 }} <b>[x](https://evil.example)</b> https://evil.example Bcc: all@example.com"
    );
    // Mail programs also turn text into links, so neither part may contain one.
    let page = email.html.split("</title>").nth(1).unwrap();
    assert!(!email.text.contains("://evil") && !page.contains("://evil"), "{} {page}", email.text);
    assert!(email.text.contains("<b>[x](evil.example)</b> evil.example"), "{}", email.text);
    assert!(!email.html.contains("<b>") && !email.html.contains("href=\"https://evil"), "{}", email.html);
    assert!(email.html.contains("&lt;b&gt;") && email.html.contains("{{ 7 * 7 }}"));
    assert_eq!(email.text.lines().filter(|line| line.contains("Bcc")).count(), 2);
}

#[test]
fn the_text_of_a_template_forms_paragraphs_lists_links_and_buttons() {
    let body = "Hello\nthere, see https://example.com/a?b=1&c=2.\n\n\n\n- one\n- two <2>\n\n[Answer {{ customer.name }}]({{ url }})\nor {{ url }}";
    let email = render(Event::FeedbackRequest, &of("s", body), &samples::full(Event::FeedbackRequest));
    let html = email.html;
    for part in [
        ">Hello<br>\nthere, see <a href=\"https://example.com/a?b=1&amp;c=2\"",
        "</a>.</p>\n<ul",
        ">one</li><li",
        ">two &lt;2&gt;</li></ul>\n<p",
        "<a href=\"https://crm.example.com/feedback/token\" style=\"display:inline-block",
        ">Answer Jane Smith</a><br>\nor <a href=\"https://crm.example.com/feedback/token\"",
    ] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(email.text.starts_with("Hello\nthere, see https://example.com/a?b=1&c=2.\n\n- one\n- two <2>\n\nAnswer Jane Smith: https://crm.example.com/feedback/token\nor https://"), "{}", email.text);
}

#[test]
fn errors_of_a_template_name_the_line_and_the_cause() {
    let fault = |subject, body| {
        let faults = check(Event::Nurture, &of(subject, body));
        faults.into_iter().map(|(part, fault)| format!("{part}: {}", fault.message)).collect::<Vec<_>>().join("; ")
    };
    assert!(fault("{{ lead.nme }}", "x").starts_with("subject: line 1: unknown variable lead.nme; available: "));
    for (body, says) in [
        ("Hi\n{{ lead.nme }}", "line 2: unknown variable lead.nme"),
        ("{% if lead.name == 'x' %}\n{{ leed }}{% endif %}", "line 2: unknown variable leed"),
        ("a\nb\n{% if lead.company %}", "line 3: "),
        ("{{ lead['nme'] }}", "line 1: undefined value"),
        ("{{ lead.name|shout }}", "line 1: unknown filter shout; available: "),
        ("{{ lead.company|upper }}{{ 1 / 0 }}", "line 1: "),
        ("{% for i in range(1000000000) %}x{% endfor %}", "line 1: unknown function range"),
        ("{% for i in lead.name * 100000 %}{% for j in lead.name %}{{ i }}{% endfor %}{% endfor %}", "line 1: "),
        ("{{ lead.name * 1000000000 }}", "line 1: "),
        ("{% if lead.company %}x{% endif %}", "must not be empty when"),
        ("{% include 'x' %}", "line 1: "),
    ] {
        assert!(fault("x", body).contains(&format!("body: {says}")), "{body}: {}", fault("x", body));
    }
}

#[test]
fn a_text_that_doubles_repeatedly_is_rejected() {
    let body = format!("{{% set a = 'aaaaaaaa' %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(60));
    assert!(!check(Event::Nurture, &of("x", &body)).is_empty());
}

#[test]
fn missing_values_are_omitted() {
    let mut context = samples::full(Event::Nurture);
    context["lead"]["company"] = json!(null);
    let template =
        of("x{{ lead.company }}", "{{ lead.company|default('your company') }}{% if lead.company %}!{% endif %}");
    let email = render(Event::Nurture, &template, &context);
    assert_eq!(email.subject, "x");
    assert!(email.text.starts_with("your company\n"), "{}", email.text);
}

/// Every shipped template with its event and the name of its file.
fn all_shipped() -> Vec<(Event, String, Template)> {
    let settings = Settings::default();
    let steps = settings.nurture_sequence.iter().zip(1..);
    let steps = steps.map(|(step, n)| (Event::Nurture, format!("nurture-{n}"), of(&step.subject, &step.body)));
    let others = Event::ALL
        .iter()
        .filter_map(|event| Some((*event, event.as_str().to_owned(), settings.templates.get(*event)?.clone())));
    steps.chain(others).collect()
}

/// The snapshots make every change of an email visible in review.
#[test]
fn the_shipped_emails_match_their_snapshots() {
    for (event, name, template) in all_shipped() {
        let email = render(event, &template, &samples::full(event));
        assert_snapshot!(format!("{name}.txt"), format!("Subject: {}\n\n{}", email.subject, email.text));
        assert_snapshot!(format!("{name}.html"), email.html);
    }
}

/// The tags of an HTML document, in order.
fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).map(|part| part.split_once('>').map_or(part, |(tag, _)| tag)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_name_adds_lines_to_the_subject_or_tags_to_the_html(
        any in ".{0,40}", dangerous in "[-<>&\"'{}%()\\[\\]=/:# \n\r\u{2}\u{3}\u{2028}a-h]{0,40}"
    ) {
        // Names are never empty or blank.
        let name = format!("J{any}{dangerous}");
        for (event, _, template) in all_shipped() {
            let mut context = samples::full(event);
            let plain = render(event, &template, &context);
            for (variable, fields) in [("lead", 3), ("customer", 3), ("user", 1), ("sender", 1)] {
                for field in ["name", "first_name", "company"].iter().take(fields) {
                    if let Some(value) = context[variable].get_mut(*field) {
                        *value = json!(name);
                    }
                }
            }
            for item in context["items"].as_array_mut().into_iter().flatten() {
                item["name"] = json!(name);
                item["next_action"] = json!(name);
            }
            let email = render(event, &template, &context);
            let breaks = email.subject.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
            prop_assert!(!breaks, "{}", email.subject);
            prop_assert_eq!(tags(&email.html), tags(&plain.html));
            prop_assert_eq!(email.text.lines().count(), plain.text.lines().count());
        }
    }
}

/// The CPU time of the thread so far.
fn cpu_time() -> std::time::Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn no_template_overflows_the_stack_or_computes_for_long() {
    // The bound is for a build without optimizations; the benchmark checks a release build.
    for hostile in hostile::corpus() {
        let before = cpu_time();
        hostile.run();
        let took = cpu_time() - before;
        assert!(took < std::time::Duration::from_secs(3), "{}: {took:?}", hostile.name);
    }
}

#[test]
fn a_template_saved_under_older_rules_fails_only_its_own_emails() {
    let mut renderer = Renderer::new(Settings::default().all_templates());
    renderer.add("old", Event::Nurture, "Hello", "{{ ----1 * 2 }}");
    let context = samples::full(Event::Nurture);
    assert!(matches!(renderer.render("old", &context), Err(Error::Internal(_))));
    let step = Settings::default().nurture_sequence[0].id.to_string();
    assert!(renderer.render(&step, &context).is_ok());
}

#[test]
fn templates_that_cost_too_much_are_rejected_when_saved() {
    let names = ["minus signs", "is upper", "compared texts", "doubled", "repeated list", "sort", "open parentheses"];
    for hostile in hostile::corpus().into_iter().filter(|hostile| names.contains(&hostile.name)) {
        assert!(hostile.run(), "{}", hostile.name);
    }
}

#[test]
fn the_listed_filters_and_tests_exist_and_no_others() {
    for filter in syntax::FILTERS {
        let error = engine_error(&format!("{{{{ 'a'|{filter} }}}}"));
        assert!(!error.contains("unknown filter"), "{filter}: {error}");
    }
    for test in syntax::TESTS {
        let error = engine_error(&format!("{{{{ 'a' is {test} }}}}"));
        assert!(!error.contains("unknown test"), "{test}: {error}");
    }
    assert!(engine_error("{{ 'a'|map('safe')|first }}").contains("unknown filter"));
    assert!(engine_error("{{ 'a'|select('filter')|first }}").contains("unknown test"));
}

fn engine_error(source: &str) -> String {
    let mut environment = engine::environment(Event::Nurture);
    check::compile(&mut environment, "x", source).unwrap();
    let result = environment.get_template("x").unwrap().render(());
    result.map_or_else(|error| error.to_string(), |_| String::new())
}

#[test]
fn filters_and_tests_work_as_documented() {
    for (source, expected) in [
        ("{{ lead.name|upper }} {{ lead.name|lower }}", "JANE SMITH jane smith"),
        ("{{ 'ada lovelace'|title }} {{ 'aDA'|capitalize }}", "Ada Lovelace Ada"),
        ("{{ '  a '|trim }}{{ 'abcabc'|replace('b', 'xx') }}", "aaxxcaxxc"),
        ("{{ 'abcdef'|truncate(3) }} {{ 'abc'|truncate(length=3) }}", "abc… abc"),
        ("{{ lead.name|length + 1 }} {{ lead.nothing|default('x') if false else 'y' }}", "11 y"),
        ("{% if lead.name is startingwith 'Jane' and lead.name is not upper %}yes{% endif %}", "yes"),
        ("{% if 'Tech' in lead.company and lead.name in ['a', 'Jane Smith'] %}yes{% endif %}", "yes"),
        ("{% for c in lead.first_name if loop is defined or true %}{{ c|upper }}.{% endfor %}", "J.a.n.e.|J.A.N.E."),
        ("{% set who = lead.name ~ ' of ' ~ lead.company %}{{ who }}", "Jane Smith of Tech Corp"),
        ("{{- 'a' -}}  {#- gone -#}  {{+ 'b' }} { {", "ab { {"),
        ("{% if false %}a{% elif 1 + 1 == 2 %}b{% else %}c{% endif %}", "b"),
    ] {
        let source = source.replace("lead.nothing", "lead.company");
        let email = render(Event::Nurture, &of("s", &source), &samples::full(Event::Nurture));
        let text = email.text.lines().next().unwrap_or_default();
        assert!(expected.split('|').any(|expected| expected == text), "{source}: {text}");
    }
    let source = "{{ items|map(attribute='kind')|unique|sort|join(',') }} {{ items|selectattr('kind', 'eq', 'lead')|length }} {{ (items|reverse|first).kind }} {{ items|sort(attribute='kind')|first is mapping }}";
    let email = render(Event::Followups, &of("s", source), &samples::full(Event::Followups));
    assert!(email.text.starts_with("customer,lead 2 "), "{}", email.text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_accepted_or_rejected_quickly(
        text in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", " ", "(", ")", "[", "]", "{", "}", "|", "~", "*", "/", ".", ",", "=", "==",
            "<", "'", "\"", "\\", "1", "1.5", "lead", "lead.name", "items", "loop", "if", "else", "elif", "endif", "for", "in", "endfor",
            "not", "is", "and", "or", "set", "upper", "eq", "default", "join", "sort", "\n", "é", "\u{2}", "http://", "a",
        ]), 0..60)
    ) {
        let text = text.concat();
        let before = cpu_time();
        for event in [Event::Nurture, Event::Followups] {
            check(event, &of(&text, &text));
        }
        let took = cpu_time() - before;
        prop_assert!(took < std::time::Duration::from_secs(3), "{:?}: {took:?}", text);
    }

    #[test]
    fn the_engine_never_finds_an_accepted_template_too_deep(
        words in prop::collection::vec(prop::sample::select(vec![
            "(", ")", "[", "]", "|", "~", "-", "+", "/", "//", "%", ".", ",", "==", "<", "'a'", "1", "1.5", "lead", "name", " if ",
            " else ", " in ", " not ", " is ", " and ", " or ", "upper", "none", "eq", "default", "length", " ",
        ]), 1..14)
    ) {
        let source = format!("{{{{ {} }}}}", words.concat());
        if syntax::check(&source).is_ok() {
            let mut environment = engine::environment(Event::Nurture);
            let compiled = environment.add_template_owned("x", source.clone());
            let too_deep = compiled.err().is_some_and(|error| error.to_string().contains("recursion"));
            prop_assert!(!too_deep, "{source}");
        }
    }
}
