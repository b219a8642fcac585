//! Forms that update what somebody else may update at the same time.

use maud::{Markup, html};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::console::crm::{Change, Versioned};
use crate::console::forms::{Draft, Fields, UPDATE, form};
use crate::console::parts;
use crate::console::refusal::{Refusal, Result};
use crate::console::session::Visit;

/// The field with the version that the form shows.
const ETAG: &str = "etag";

/// The fields of a form: their names and labels.
pub(super) type Labels = [(&'static str, &'static str)];

/// A form of a record, with the version that it was made of.
pub(super) struct Edit {
    /// Its inputs.
    pub draft: Draft,
    etag: String,
    /// What somebody else has changed: a label, the value of the form, and the value now.
    conflicts: Vec<(&'static str, String, String)>,
}

/// What became of an update.
pub(super) enum Saved {
    Done,
    /// The form, to be shown again.
    Refused(Edit),
}

impl Edit {
    /// The form of a record as it is.
    pub fn of<T>(stored: &Versioned<T>, values: impl Fn(&T) -> Fields) -> Self {
        Self { draft: Draft::of(values(&stored.record)), etag: stored.etag.clone(), conflicts: Vec::new() }
    }

    /// Sends an update of the version that the form shows; the API names its fields with a prefix. If somebody else has updated the record, the form is
    /// returned with both values, and its next update is one of the new version.
    ///
    /// # Errors
    /// The API's, if they are not about the input.
    pub async fn save<T: DeserializeOwned>(
        visit: &Visit,
        (path, prefix): (&str, &str),
        mut fields: Fields,
        labels: &Labels,
        body: impl Fn(&Fields) -> Value,
        values: impl Fn(&T) -> Fields,
    ) -> Result<Saved> {
        let (_, etag) = (fields.take_once(), fields.take(ETAG).unwrap_or_default());
        let change = Change::with(body(&fields)).if_match(Some(etag.clone()));
        let Err(refusal) = visit.crm.send(UPDATE, path, change).await else { return Ok(Saved::Done) };
        let refusal = within(refusal, prefix);
        if refusal.status != 412 {
            return Ok(Saved::Refused(Self { draft: Draft::refused(fields, refusal)?, etag, conflicts: Vec::new() }));
        }
        let stored: Versioned<T> = visit.crm.record(path).await?;
        let conflicts = conflicts(&fields, &values(&stored.record), labels);
        // A form that was sent twice has done what it should.
        if conflicts.is_empty() {
            return Ok(Saved::Done);
        }
        Ok(Saved::Refused(Self { draft: Draft::refused(fields, refusal)?, etag: stored.etag, conflicts }))
    }

    /// Why the form was refused.
    pub fn problems(&self) -> Markup {
        let cell = |text: &str| parts::text_or_dash(Some(text));
        let rows = self.conflicts.iter().map(|(label, yours, now)| vec![html! { (label) }, cell(yours), cell(now)]);
        html! {
            (self.draft.problems())
            @if !self.conflicts.is_empty() {
                p { "Somebody else has saved other values. The form still has yours: change them, or save again to replace theirs." }
                (parts::table("Values in conflict", &["Field", "Yours", "Now"], &rows.collect::<Vec<_>>()))
            }
        }
    }

    /// The form itself, with its button.
    pub fn form(&self, visit: &Visit, action: &str, inputs: &Markup) -> Markup {
        form(visit, action, &html! { (self.version()) (inputs) button.primary type="submit" { "Save" } })
    }

    /// The hidden field with the version.
    pub fn version(&self) -> Markup {
        html! { input type="hidden" name=(ETAG) value=(self.etag); }
    }
}

/// A refusal whose fields are named as in the form.
pub(super) fn within(mut refusal: Refusal, prefix: &str) -> Refusal {
    for fault in &mut refusal.errors {
        if let Some(rest) = fault.field.strip_prefix(prefix) {
            fault.field = rest.to_owned();
        }
    }
    refusal
}

fn conflicts(yours: &Fields, now: &Fields, labels: &Labels) -> Vec<(&'static str, String, String)> {
    let text = |fields: &Fields, name: &str| fields.all(name).collect::<Vec<_>>().join(", ");
    let both = labels.iter().map(|(name, label)| (*label, text(yours, name), text(now, name)));
    both.filter(|(_, yours, now)| yours != now).collect()
}

/// Fields by name; a value that is `None` is empty.
pub(super) fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Fields {
    pairs.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
}

/// The values of a field that has several, as an array; `null` if there are none.
pub(super) fn array(fields: &Fields, name: &str) -> Value {
    let values: Vec<Value> = fields.all(name).filter(|value| !value.is_empty()).map(Value::from).collect();
    if values.is_empty() { Value::Null } else { Value::Array(values) }
}
