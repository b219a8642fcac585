//! Decides what to do with a lead: a pure function of the lead, the sequence and the time.

use std::collections::HashMap;

use chrono::Duration;
use uuid::Uuid;

use super::candidates::Candidate;
use super::{LeadPreview, Reason, Would};
use crate::accounts::settings::SequenceStep;
use crate::crm::leads::{Lead, NurtureExit};
use crate::values::Time;

/// A workspace's sequence, with the position of each step.
pub(super) struct Sequence<'a> {
    steps: &'a [SequenceStep],
    places: HashMap<Uuid, usize>,
}

/// What a run does with a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// Which email it gets.
    pub verdict: Verdict,
    /// How its enrolment changes.
    change: Option<Change>,
}

/// A change of a lead's enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Enroll,
    Leave(NurtureExit),
}

/// Which email a lead gets.
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

    /// Decides about a lead. One that is not enrolled is enrolled if it is eligible.
    pub fn decide(&self, lead: &Candidate, now: Time) -> Decision {
        let verdict = self.verdict(lead, now);
        let exit = verdict.exit();
        let change = match lead.is_enrolled() {
            true => exit.map(Change::Leave),
            false => (exit.is_none() && lead.nurture_left.is_none()).then_some(Change::Enroll),
        };
        Decision { verdict, change }
    }

    fn verdict(&self, lead: &Candidate, now: Time) -> Verdict {
        if let Some(reason) = lead.nurture_left.and_then(|exit| Reason::from_word(exit.as_str())) {
            return Verdict::Skip { step: None, reason };
        }
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
        let at =
            lead.last_taken_at.or(lead.nurture_enrolled_at).unwrap_or(now) + Duration::days(step.delay_days.into());
        if at <= now { Verdict::Send { step: step.id, at } } else { Verdict::Wait { step: step.id, at } }
    }
}

impl Verdict {
    /// Why a lead with the verdict leaves the sequence. It stays if only the workspace's settings are in the way.
    fn exit(self) -> Option<NurtureExit> {
        match self {
            Self::Skip { reason, .. } => NurtureExit::from_word(reason.as_str()),
            Self::Send { .. } | Self::Wait { .. } => None,
        }
    }
}

impl Decision {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        self.change.is_some() || matches!(self.verdict, Verdict::Send { .. })
    }

    /// Whether it enrols the lead.
    pub fn enrolls(&self) -> bool {
        self.change == Some(Change::Enroll)
    }

    /// The same change of the enrolment, with another verdict.
    pub fn with(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// Changes the lead's enrolment.
    pub fn apply(&self, lead: &mut Lead, now: Time) {
        match self.change {
            Some(Change::Enroll) => lead.enroll(now),
            Some(Change::Leave(exit)) => lead.leave(exit, now),
            None => {}
        }
    }

    pub fn preview(&self, lead: &Candidate) -> LeadPreview {
        let (step, would, reason, at) = match self.verdict {
            Verdict::Send { step, at } => (Some(step), Would::Send, None, Some(at)),
            Verdict::Wait { step, at } => (Some(step), Would::Wait, None, Some(at)),
            Verdict::Skip { step, reason } => (step, Would::Skip, Some(reason), None),
        };
        LeadPreview { lead_id: lead.id, email: lead.email.clone(), enroll: self.enrolls(), step, would, reason, at }
    }
}
