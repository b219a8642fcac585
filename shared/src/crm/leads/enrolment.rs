//! Enrolment: which leads nurture sends emails to.
//!
//! A lead is enrolled when it is created, by a start of nurture, or explicitly. It leaves the sequence for one
//! of the reasons in [`NurtureExit`]. Only an explicit enrolment brings back a lead that left.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Lead, LeadStatus};
use crate::bulk::Enrolment;
use crate::error::{Error, Reason, Result};
use crate::mail::suppressions;
use crate::platform::db;
use crate::records::history::Actor;
use crate::records::{self, Outcome};
use crate::string_enum;
use crate::values::Time;
use crate::values::etag::Condition;

string_enum! {
    /// Why a lead left the nurture sequence.
    NurtureExit {
        /// It was converted to a customer.
        Converted = "converted",
        /// It was won.
        Won = "won",
        /// It was lost.
        Lost = "lost",
        /// It was deleted, and restored since.
        Deleted = "deleted",
        /// Its address unsubscribed, or was added to the suppressions.
        Suppressed = "suppressed",
        /// An email to its address bounced.
        Bounced = "bounced",
        /// It replied.
        Replied = "replied",
        /// Somebody has called, met or written to it since its last step.
        Interaction = "interaction",
        /// It has received the last step.
        Finished = "finished",
        /// A caller has unenrolled it.
        Unenrolled = "unenrolled",
    }
}

impl LeadStatus {
    /// The statuses of leads that are nurtured.
    pub const NURTURED: [Self; 3] = [Self::New, Self::Contacted, Self::Qualified];

    /// Why a lead that reaches the status leaves the sequence, if it does.
    pub(super) fn exit(self) -> Option<NurtureExit> {
        match self {
            Self::Converted => Some(NurtureExit::Converted),
            Self::Won => Some(NurtureExit::Won),
            Self::Lost => Some(NurtureExit::Lost),
            Self::New | Self::Contacted | Self::Qualified | Self::Proposal | Self::Negotiation => None,
        }
    }
}

impl Lead {
    /// Whether nurture sends it emails, as long as its status allows that.
    pub fn is_enrolled(&self) -> bool {
        self.nurture_enrolled_at.is_some() && self.nurture_left_at.is_none()
    }

    /// Enrols it, even if it has left the sequence.
    pub(crate) fn enroll(&mut self, at: Time) {
        self.nurture_enrolled_at = Some(at);
        (self.nurture_left_at, self.nurture_left) = (None, None);
    }

    /// Enrols a new lead, unless its status ends the sequence.
    pub(super) fn enroll_new(&mut self, at: Time) {
        if self.status.exit().is_none() {
            self.enroll(at);
        }
    }

    /// Lets it leave the sequence, if it is enrolled.
    pub(crate) fn leave(&mut self, exit: NurtureExit, at: Time) {
        if self.is_enrolled() {
            (self.nurture_left_at, self.nurture_left) = (Some(at), Some(exit));
        }
    }

    /// Unenrols it, so that it is not enrolled by a start either. A lead that has left stays as it is.
    fn unenroll(&mut self, at: Time) {
        if self.nurture_left_at.is_none() {
            (self.nurture_left_at, self.nurture_left) = (Some(at), Some(NurtureExit::Unenrolled));
        }
    }

    /// Whether its waiting nurture emails are cancelled by a change. A lead that left for another reason gets what
    /// is queued, such as its last step.
    pub(super) fn ends_nurture(&self, before: &Self) -> bool {
        let is_over = self.status.exit().is_some() && self.status != before.status;
        let left_now = self.nurture_left_at.is_some() && before.nurture_left_at.is_none();
        is_over || (left_now && self.nurture_left == Some(NurtureExit::Unenrolled))
    }

    /// Applies an explicit request to enrol or unenrol it.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it cannot be enrolled.
    fn request(&mut self, enrolment: Enrolment, suppressions: &HashMap<String, Uuid>, at: Time) -> Result<()> {
        let again = match enrolment {
            Enrolment::Unenroll => {
                self.unenroll(at);
                return Ok(());
            }
            Enrolment::Enroll { again } => again,
        };
        if !LeadStatus::NURTURED.contains(&self.status) {
            let message = format!("leads with the status {} are not nurtured", self.status.as_str());
            return Err(Error::conflict_with(self.id, Reason::NotNurtured, "status", message));
        }
        if let Some(id) = suppressions.get(&self.email.key()) {
            return Err(Error::conflict_with(*id, Reason::Suppressed, "email", "the address is suppressed"));
        }
        match self.nurture_left {
            Some(exit) if !again => {
                let message = format!("the lead has left the sequence ({}); set again to enrol it", exit.as_str());
                Err(Error::conflict_with(self.id, Reason::LeftNurture, "nurture_left", message))
            }
            _ if self.is_enrolled() => Ok(()),
            _ => {
                self.enroll(at);
                Ok(())
            }
        }
    }
}

/// Enrols a lead, even if it has left the sequence, or unenrols it. Needs a transaction.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`] if the condition does not hold; [`Error::Conflict`] if the lead's status
/// does not allow it, or its address is suppressed.
pub async fn request_enrolment(
    connection: &mut PgConnection,
    actor: &Actor,
    id: Uuid,
    enrolment: Enrolment,
    condition: &Condition,
) -> Result<Lead> {
    let before: Vec<Lead> = records::lock(connection, actor.workspace_id, &[id]).await?;
    let before = before.into_iter().next().ok_or(Error::NotFound)?;
    condition.check(&before)?;
    let suppressions = suppressions_of(connection, actor.workspace_id, std::slice::from_ref(&before)).await?;
    let (mut after, now) = (before.clone(), db::now());
    after.request(enrolment, &suppressions, now)?;
    if after != before {
        records::mark_changed(&before, &mut after, now);
        records::update_all(connection, actor, &[(before, after.clone())]).await?;
    }
    Ok(after)
}

/// Enrols or unenrols many leads, and returns what became of each, in the order of the ids. A dry run writes
/// nothing.
pub(super) async fn request_all(
    connection: &mut PgConnection,
    actor: &Actor,
    ids: &[Uuid],
    enrolment: Enrolment,
    dry_run: bool,
) -> Result<Vec<Outcome>> {
    let leads: Vec<Lead> = records::lock(connection, actor.workspace_id, ids).await?;
    let suppressions = suppressions_of(connection, actor.workspace_id, &leads).await?;
    let leads: HashMap<Uuid, Lead> = leads.into_iter().map(|lead| (lead.id, lead)).collect();
    let (mut outcomes, mut changed, now) = (Vec::with_capacity(ids.len()), Vec::new(), db::now());
    for id in ids {
        let Some(before) = leads.get(id) else {
            outcomes.push(Outcome::Refused(Error::NotFound));
            continue;
        };
        let mut after = before.clone();
        outcomes.push(match after.request(enrolment, &suppressions, now) {
            Err(error) => Outcome::Refused(error),
            Ok(()) if after == *before => Outcome::Unchanged,
            Ok(()) => {
                records::mark_changed(before, &mut after, now);
                changed.push((before.clone(), after));
                Outcome::Changed
            }
        });
    }
    if !dry_run {
        records::update_all(connection, actor, &changed).await?;
    }
    Ok(outcomes)
}

/// The suppressed addresses of leads, each with its suppression.
async fn suppressions_of(
    connection: &mut PgConnection,
    workspace_id: Uuid,
    leads: &[Lead],
) -> Result<HashMap<String, Uuid>> {
    let keys: Vec<String> = leads.iter().map(|lead| lead.email.key()).collect();
    suppressions::owners(connection, workspace_id, &keys).await
}
