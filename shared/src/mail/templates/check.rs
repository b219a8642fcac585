//! Templates are checked when they are saved, so that a typo never reaches a customer.

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde_json::Value as Json;

use super::{MAX_BYTES, Marked, Template, engine, markup, samples, syntax};
use crate::mail::event::Event;
use crate::values::Fault;

/// The kind of fault.
pub(crate) const CODE: &str = "template";

/// The part of a template that is the subject.
pub const SUBJECT: &str = "subject";
/// The part of a template that is the body.
pub const BODY: &str = "body";

/// What is wrong with a template, by its part.
pub fn check(name: Event, template: &Template) -> Vec<(&'static str, Fault)> {
    let parts = [(SUBJECT, &template.subject), (BODY, &template.body)];
    parts.into_iter().filter_map(|(part, source)| Some((part, check_part(name, part, source)?))).collect()
}

/// What is wrong with a part of a template, [`SUBJECT`] or [`BODY`]: it cannot be read, it names a
/// variable that its event does not have, it fails over one of the examples, or it asks for an answer
/// and leaves out where to give it.
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
                return Some(Fault::new(CODE, "must not be empty when what may be missing is missing"));
            }
            Ok(written) if Marked::read(&written, &[]).len() > MAX_BYTES => {
                return Some(Fault::new("too_long", "must not make more than 1 MiB"));
            }
            Ok(written) if part == BODY && leaves_out_link(&written, &sample) => {
                return Some(Fault::new(
                    CODE,
                    "must have the link to the page for the answer, {{ url }}, in every mail",
                ));
            }
            Ok(_) => {}
        }
    }
    None
}

/// Adds a template to an environment under a name; the error says what is wrong with it.
pub(super) fn compile(environment: &mut Environment<'static>, name: &str, source: &str) -> Result<(), String> {
    let source = source.replace("\r\n", "\n");
    syntax::check(&source)?;
    environment.add_template_owned(name.to_owned(), source).map_err(|error| describe(&error))
}

/// Whether an event that is about a link does not hand it on.
fn leaves_out_link(written: &str, sample: &Json) -> bool {
    sample["url"].as_str().is_some_and(|url| !Marked::read(written, &[url]).inserts(url))
}

/// A variable that the template names anywhere, also where no example leads, and that is not there.
fn unknown(environment: &Environment, part: &str, sample: &Json) -> Option<Fault> {
    let template = environment.get_template(part).ok()?;
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort_unstable();
    let name = names.into_iter().find(|name| sample.pointer(&format!("/{}", name.replace('.', "/"))).is_none())?;
    let line = template.source().lines().position(|line| line.contains(&name)).map_or(1, |place| place + 1);
    Some(Fault::new(CODE, format!("line {line}: there is no variable {name}; there are: {}", known(sample).join(" "))))
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

/// An error of the engine for people, with its line.
pub(super) fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", error.kind())
}
