//! Changes of settings by the body of a request.

use std::collections::HashSet;

use uuid::Uuid;

use super::overrides::{Overrides, TemplateOverrides};
use super::{Delay, MAX_STEPS, Patience, SequenceStep};
use crate::error::{FieldError, Result};
use crate::mail::Event;
use crate::mail::senders::Domains;
use crate::mail::templates::{self, Body, Subject, Template, Templates};
use crate::values::Email;
use crate::values::json_body::Object;
use crate::values::patch::Patch;

impl Overrides {
    /// Applies the fields that a body names.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with every fault of the body.
    pub fn change(&mut self, mut body: Object, domains: &Domains) -> Result<()> {
        body.take("sender_name").apply(&mut self.sender_name);
        // A stored address is not checked again: replies still go to it if its domain is no longer allowed.
        body.drop_unchanged("sender_email", &self.sender_email);
        let sender = body.take::<Email>("sender_email");
        if let Patch::Set(email) = &sender
            && let Err(fault) = domains.check(email)
        {
            body.refuse(fault.of("sender_email"));
        }
        sender.apply(&mut self.sender_email);
        body.take("reply_to").apply(&mut self.reply_to);
        body.take("notification_email").apply(&mut self.notification_email);
        body.take("nightly_at").apply(&mut self.nightly_at);
        body.take("time_zone").apply(&mut self.time_zone);
        body.take("nurture_enroll_created").apply(&mut self.nurture_enroll_created);
        let days = body.take::<Patience>("feedback_reminder_after_days");
        days.map(Patience::get).apply(&mut self.feedback_reminder_after_days);
        sequence(&mut body).apply(&mut self.nurture_sequence);
        match body.open("templates") {
            Patch::Keep => {}
            Patch::Clear => self.templates.clear(),
            Patch::Set(mut templates) => {
                self.change_templates(&mut templates);
                body.close("templates", templates);
            }
        }
        body.finish()
    }

    fn change_templates(&mut self, body: &mut Object) {
        let default = Templates::default();
        for name in Event::ALL {
            let Some(default) = default.get(*name) else { continue };
            match body.open(name.as_str()) {
                Patch::Keep => {}
                Patch::Clear => drop(self.templates.remove(name)),
                Patch::Set(mut template) => {
                    self.templates.entry(*name).or_default().change(*name, default, &mut template);
                    body.close(name.as_str(), template);
                }
            }
        }
    }
}

impl TemplateOverrides {
    /// Applies the parts that a body names, and checks the resulting template.
    fn change(&mut self, name: Event, default: &Template, body: &mut Object) {
        body.take::<Subject>("subject").map(text).apply(&mut self.subject);
        body.take::<Body>("body").map(text).apply(&mut self.body);
        let or = |set: &Option<String>, default: &String| set.clone().unwrap_or_else(|| default.clone());
        let template = Template { subject: or(&self.subject, &default.subject), body: or(&self.body, &default.body) };
        for (part, fault) in templates::check(name, &template) {
            body.refuse(fault.of(part));
        }
    }
}

fn text<T: AsRef<str>>(text: T) -> String {
    text.as_ref().to_owned()
}

/// Reads the steps of a body. A step with an id keeps it, so that no lead receives the step twice; a step
/// without an id gets a new one.
fn sequence(body: &mut Object) -> Patch<Vec<SequenceStep>> {
    let items = match body.open_all("nurture_sequence", MAX_STEPS) {
        Patch::Keep => return Patch::Keep,
        Patch::Clear => return Patch::Clear,
        Patch::Set(items) => items,
    };
    let (mut steps, mut ids) = (Vec::with_capacity(items.len()), HashSet::new());
    for (path, mut item) in items {
        if let Some(step) = step(&mut item) {
            if !ids.insert(step.id) {
                item.refuse(FieldError::new("id", "taken", "is already the id of an earlier step"));
            }
            steps.push(step);
        }
        body.close(&path, item);
    }
    Patch::Set(steps)
}

fn step(item: &mut Object) -> Option<SequenceStep> {
    let id = match item.take("id") {
        Patch::Set(id) => id,
        Patch::Keep | Patch::Clear => Uuid::now_v7(),
    };
    let delay_days = item.required::<Delay>("delay_days");
    let subject = item.required::<Subject>("subject").map(text);
    let body = item.required::<Body>("body").map(text);
    // Each part is checked, even if the step lacks others.
    for (part, source) in [(templates::SUBJECT, &subject), (templates::BODY, &body)] {
        let fault = source.as_ref().and_then(|source| templates::check_part(Event::Nurture, part, source));
        fault.into_iter().for_each(|fault| item.refuse(fault.of(part)));
    }
    Some(SequenceStep { id, delay_days: delay_days?.get(), subject: subject?, body: body? })
}
