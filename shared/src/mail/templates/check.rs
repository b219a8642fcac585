//! Checking templates when they are saved, so that a typo never reaches a customer.

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::Value as Json;

use super::{MAX_BYTES, Marked, Template, engine, markup, samples, syntax};
use crate::mail::event::Event;
use crate::values::Fault;

/// The code of errors in templates.
pub(crate) const CODE: &str = "template";

/// The subject, as a part of a template.
pub const SUBJECT: &str = "subject";
/// The body, as a part of a template.
pub const BODY: &str = "body";

/// Returns the errors of a template, each with its part.
pub fn check(name: Event, template: &Template) -> Vec<(&'static str, Fault)> {
    let parts = [(SUBJECT, &template.subject), (BODY, &template.body)];
    parts.into_iter().filter_map(|(part, source)| Some((part, check_part(name, part, source)?))).collect()
}

/// Returns the error in a part of a template, [`SUBJECT`] or [`BODY`]: it does not compile, it uses
/// a variable that its event does not have, it fails with one of the samples, or it omits a
/// required link.
pub fn check_part(name: Event, part: &str, source: &str) -> Option<Fault> {
    let mut environment = engine::environment(name);
    if let Err(fault) = compile(&mut environment, part, source) {
        return Some(Fault::new(CODE, fault));
    }
    for sample in [samples::full(name), samples::sparse(name), samples::large(name)] {
        if let Some(fault) = unknown(&environment, part, &sample) {
            return Some(fault);
        }
        let context = Value::from(Serde(&sample));
        match environment.get_template(part).and_then(|template| template.render(context)) {
            Err(error) => return Some(Fault::new(CODE, describe(&error))),
            Ok(written) if markup::one_line(&written).is_empty() => {
                return Some(Fault::new(CODE, "must not be empty when optional variables are missing"));
            }
            Ok(written) if Marked::read(&written, &[]).len() > MAX_BYTES => {
                return Some(Fault::new("too_long", "must not render to more than 1 MiB"));
            }
            Ok(written) if part == BODY && omits_link(&written, &sample) => {
                return Some(Fault::new(CODE, "must always include the link to the feedback page, {{ url }}"));
            }
            Ok(_) => {}
        }
    }
    None
}

/// Compiles a template under a name. The error is a sentence for the template's author.
pub(super) fn compile(environment: &mut Environment<'static>, name: &str, source: &str) -> Result<(), String> {
    let source = source.replace("\r\n", "\n");
    syntax::check(&source)?;
    environment.add_template_owned(name.to_owned(), source).map_err(|error| describe(&error))
}

/// Whether the event has a link and the body does not include it.
fn omits_link(written: &str, sample: &Json) -> bool {
    sample["url"].as_str().is_some_and(|url| !Marked::read(written, &[url]).inserts(url))
}

/// Finds an unknown variable anywhere in the template, including branches that no sample reaches.
fn unknown(environment: &Environment, part: &str, sample: &Json) -> Option<Fault> {
    let template = environment.get_template(part).ok()?;
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort_unstable();
    let name = names.into_iter().find(|name| sample.pointer(&format!("/{}", name.replace('.', "/"))).is_none())?;
    let line = template.source().lines().position(|line| line.contains(&name)).map_or(1, |index| index + 1);
    Some(Fault::new(CODE, format!("line {line}: unknown variable {name}; available: {}", known(sample).join(" "))))
}

/// The variables of an event.
pub(super) fn known(sample: &Json) -> Vec<String> {
    let Json::Object(variables) = sample else { return Vec::new() };
    let each = variables.iter().flat_map(|(name, value)| match value {
        Json::Object(fields) => fields.keys().map(|field| format!("{name}.{field}")).collect(),
        _ => vec![name.clone()],
    });
    each.collect()
}

/// The engine's error with its line, for the template's author.
pub(super) fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", error.kind())
}
