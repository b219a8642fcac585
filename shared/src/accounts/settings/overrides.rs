//! The settings that a workspace has changed from the defaults, as they are stored.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{LocalTime, SequenceStep, Settings, TimeZone};
use crate::mail::Event;
use crate::values::{Email, Name};

/// The settings that a workspace has changed. The others follow the program's defaults, even when those
/// change in a later version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_email: Option<Email>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Email>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_email: Option<Email>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nightly_at: Option<LocalTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TimeZone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nurture_sequence: Option<Vec<SequenceStep>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nurture_enroll_created: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback_reminder_after_days: Option<u16>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub templates: HashMap<Event, TemplateOverrides>,
}

/// The changed parts of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Overrides {
    /// Removes values that are equal to the defaults.
    pub fn prune(&mut self) {
        let default = Settings::default();
        self.nightly_at.take_if(|set| *set == default.nightly_at);
        self.time_zone.take_if(|set| *set == default.time_zone);
        self.nurture_sequence.take_if(|set| *set == default.nurture_sequence);
        self.nurture_enroll_created.take_if(|set| *set == default.nurture_enroll_created);
        self.feedback_reminder_after_days.take_if(|set| *set == default.feedback_reminder_after_days);
        self.templates.retain(|name, set| {
            let Some(template) = default.templates.get(*name) else { return false };
            set.subject.take_if(|subject| *subject == template.subject);
            set.body.take_if(|body| *body == template.body);
            *set != TemplateOverrides::default()
        });
    }

    /// The full settings: these over the defaults.
    pub fn settings(self) -> Settings {
        let mut settings = Settings {
            sender_name: self.sender_name,
            sender_email: self.sender_email,
            reply_to: self.reply_to,
            notification_email: self.notification_email,
            ..Settings::default()
        };
        set(&mut settings.nightly_at, self.nightly_at);
        set(&mut settings.time_zone, self.time_zone);
        set(&mut settings.nurture_sequence, self.nurture_sequence);
        set(&mut settings.nurture_enroll_created, self.nurture_enroll_created);
        set(&mut settings.feedback_reminder_after_days, self.feedback_reminder_after_days);
        for (name, TemplateOverrides { subject, body }) in self.templates {
            if let Some(template) = settings.templates.get_mut(name) {
                set(&mut template.subject, subject);
                set(&mut template.body, body);
            }
        }
        settings
    }
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}
