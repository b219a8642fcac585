//! Decides what to do with a lead: a pure function of the lead, the sequence and the time.

use std::collections::HashMap;

use chrono::Duration;
use uuid::Uuid;

use super::candidates::Candidate;
use super::{LeadPreview, Reason, Would};
use crate::accounts::settings::SequenceStep;
use crate::values::Time;

/// A workspace's sequence, with the position of each step.
pub(super) struct Sequence<'a> {
    steps: &'a [SequenceStep],
    places: HashMap<Uuid, usize>,
}

/// What to do with a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The step has been due since `at`.
    Send { step: Uuid, at: Time },
    /// The step will be due at `at`.
    Wait { step: Uuid, at: Time },
    /// The lead gets no email.
    Skip { step: Option<Uuid>, reason: Reason },
}

impl<'a> Sequence<'a> {
    pub fn new(steps: &'a [SequenceStep]) -> Self {
        Self { steps, places: steps.iter().enumerate().map(|(place, step)| (step.id, place)).collect() }
    }

    pub fn verdict(&self, lead: &Candidate, now: Time) -> Verdict {
        if self.steps.is_empty() {
            return Verdict::Skip { step: None, reason: Reason::NoSteps };
        }
        let last = lead.taken.iter().filter_map(|step| self.places.get(step)).max();
        let Some(step) = self.steps.get(last.map_or(0, |last| last + 1)) else {
            return Verdict::Skip { step: None, reason: Reason::Finished };
        };
        if let Some(reason) = lead.objection() {
            return Verdict::Skip { step: Some(step.id), reason };
        }
        let at = lead.last_taken_at.unwrap_or(lead.created_at) + Duration::days(step.delay_days.into());
        if at <= now { Verdict::Send { step: step.id, at } } else { Verdict::Wait { step: step.id, at } }
    }
}

impl Verdict {
    pub fn preview(self, lead: &Candidate) -> LeadPreview {
        let (step, would, reason, at) = match self {
            Self::Send { step, at } => (Some(step), Would::Send, None, Some(at)),
            Self::Wait { step, at } => (Some(step), Would::Wait, None, Some(at)),
            Self::Skip { step, reason } => (step, Would::Skip, Some(reason), None),
        };
        LeadPreview { lead_id: lead.id, email: lead.email.clone(), step, would, reason, at }
    }
}
