//! Writes the digests, and marks their interactions as followed up.

use std::collections::{HashMap, HashSet};

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{FollowedUp, PAGE, Reason};
use crate::accounts::settings::{self, Settings};
use crate::crm::interactions::{CustomerInteraction, Interaction, LeadInteraction};
use crate::error::Result;
use crate::mail::suppressions;
use crate::mail::templates::Renderer;
use crate::mail::{self, Event, NewEmail, Queued, Sender};
use crate::platform::config;
use crate::records::history::Actor;
use crate::records::{self, RecordType};
use crate::values::{Email, Name, Time};
use crate::workflows::brake::Mode;

/// The most interactions that a digest lists; it counts the others.
const MAX_LISTED: usize = 100;

/// Where the writing resumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The last gathered interaction that was processed.
    after: Option<Found>,
    /// The outcome for its recipient, who may have more interactions.
    fate: Option<Fate>,
}

/// The outcome for a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// Their digest was written at this time.
    Written(Time),
    /// They get no digest.
    Skipped(Reason),
}

/// An interaction that was gathered.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, Deserialize)]
struct Found {
    recipient: String,
    next_action_date: Time,
    interaction_id: Uuid,
    interaction_type: RecordType,
}

/// One step of the writing.
pub(super) struct Writing<'a> {
    pub actor: &'a Actor,
    pub settings: &'a Settings,
    pub mail: &'a config::Mail,
    /// Whether digests are written, and how many.
    pub mode: Mode,
    /// When the run began: it covers what was due then.
    pub began: Time,
    pub now: Time,
}

/// A recipient's interactions on a page.
struct Group {
    recipient: String,
    due: Vec<Due>,
    /// How many more follow after this page.
    more: i64,
}

/// An interaction that is still due, and locked.
enum Due {
    Lead(LeadInteraction),
    Customer(CustomerInteraction),
}

/// The lead or customer of an interaction.
#[derive(FromRow)]
struct Person {
    id: Uuid,
    name: Name,
    email: Email,
}

impl Writing<'_> {
    /// Processes the next page of gathered interactions; returns `None` after the last one.
    pub async fn page(
        &self,
        connection: &mut PgConnection,
        cursor: Cursor,
        run: &mut FollowedUp,
    ) -> Result<Option<Cursor>> {
        let found = self.found(connection, cursor.after.as_ref()).await?;
        let Some(last) = found.last().cloned() else { return Ok(None) };
        let mut fates = HashMap::new();
        if let Cursor { after: Some(after), fate: Some(fate) } = cursor {
            fates.insert(after.recipient, fate);
        }
        let groups = self.groups(connection, found, run).await?;
        let new: Vec<&Group> =
            groups.iter().filter(|group| !group.due.is_empty() && !fates.contains_key(&group.recipient)).collect();
        let decided = self.decide(connection, &new, run).await?;
        fates.extend(decided);
        let fate = fates.get(&last.recipient).copied();
        self.mark(connection, groups, &fates, run).await?;
        Ok(Some(Cursor { after: Some(last), fate }))
    }

    async fn found(&self, connection: &mut PgConnection, after: Option<&Found>) -> Result<Vec<Found>> {
        Ok(sqlx::query_as(
            "SELECT recipient, next_action_date, interaction_id, interaction_type FROM followups
             WHERE workspace_id = $1 AND job_id = $2
                 AND ($3::text IS NULL OR (recipient, next_action_date, interaction_id) > ($3, $4, $5))
             ORDER BY recipient, next_action_date, interaction_id LIMIT $6",
        )
        .bind(self.actor.workspace_id)
        .bind(self.actor.id)
        .bind(after.map(|after| &after.recipient))
        .bind(after.map(|after| after.next_action_date))
        .bind(after.map(|after| after.interaction_id))
        .bind(PAGE)
        .fetch_all(connection)
        .await?)
    }

    /// Locks the gathered interactions, and groups those that are still due by recipient.
    async fn groups(
        &self,
        connection: &mut PgConnection,
        found: Vec<Found>,
        run: &mut FollowedUp,
    ) -> Result<Vec<Group>> {
        let more = match found.last() {
            Some(last) if found.len() as i64 == PAGE => self.count_after(connection, last).await?,
            _ => 0,
        };
        let mut leads = self.lock::<LeadInteraction>(connection, &found).await?;
        let mut customers = self.lock::<CustomerInteraction>(connection, &found).await?;
        let mut groups: Vec<Group> = Vec::new();
        for Found { recipient, interaction_id: id, interaction_type, .. } in found {
            if groups.last().is_none_or(|group| group.recipient != recipient) {
                groups.push(Group { recipient, due: Vec::new(), more: 0 });
            }
            // Removed, because an interaction whose date changed during the run may have been
            // gathered twice.
            let due = match interaction_type {
                RecordType::LeadInteraction => leads.remove(&id).map(Due::Lead),
                _ => customers.remove(&id).map(Due::Customer),
            };
            match (due, groups.last_mut()) {
                (Some(due), Some(group)) => group.due.push(due),
                _ => run.skipped.add(Reason::Changed, 1),
            }
        }
        if let Some(group) = groups.last_mut() {
            group.more = more;
        }
        Ok(groups)
    }

    async fn count_after(&self, connection: &mut PgConnection, last: &Found) -> Result<i64> {
        Ok(sqlx::query_scalar(
            "SELECT count(*) FROM followups
             WHERE workspace_id = $1 AND job_id = $2 AND recipient = $3
                 AND (next_action_date, interaction_id) > ($4, $5)",
        )
        .bind(self.actor.workspace_id)
        .bind(self.actor.id)
        .bind(&last.recipient)
        .bind(last.next_action_date)
        .bind(last.interaction_id)
        .fetch_one(connection)
        .await?)
    }

    /// Locks and returns the interactions of a kind that are still due.
    async fn lock<I: Interaction>(&self, connection: &mut PgConnection, found: &[Found]) -> Result<HashMap<Uuid, I>> {
        let of_kind = found.iter().filter(|found| found.interaction_type == I::TYPE);
        let ids: Vec<Uuid> = of_kind.map(|found| found.interaction_id).collect();
        let locked: Vec<I> = records::lock(connection, self.actor.workspace_id, &ids).await?;
        Ok(locked.into_iter().filter(|due| due.is_due(self.began)).map(|due| (due.id(), due)).collect())
    }

    /// Decides the outcome for recipients that are new in this run, and writes their digests to the
    /// outbox.
    async fn decide(
        &self,
        connection: &mut PgConnection,
        groups: &[&Group],
        run: &mut FollowedUp,
    ) -> Result<HashMap<String, Fate>> {
        let sender = settings::sender(connection, self.actor.workspace_id, self.settings, self.mail).await?;
        let renderer = Renderer::read(self.settings.all_templates()).await?;
        let users = self.users(connection, groups).await?;
        let people = self.people(connection, groups).await?;
        let (mut fates, mut digests) = (HashMap::new(), Vec::new());
        let left = self.mode.left(run.sent);
        for group in groups {
            let (user, email) = match (users.get(&group.recipient), &self.settings.notification_email) {
                (Some(user), _) => (Some(user), &user.email),
                (None, Some(email)) if email.key() == group.recipient => (None, email),
                // They were a user when this was gathered, and no longer are.
                _ => {
                    fates.insert(group.recipient.clone(), Fate::Skipped(Reason::NoRecipient));
                    run.list(None, group.count(), Some(Reason::NoRecipient));
                    continue;
                }
            };
            if digests.len() as i64 >= left {
                fates.insert(group.recipient.clone(), Fate::Skipped(Reason::Limit));
                run.list(Some(email), group.count(), Some(Reason::Limit));
                continue;
            }
            let context = json!({
                "user": { "name": user.map_or(email.as_ref(), |user| user.name.as_ref()) },
                "items": self.items(group, &people),
                "count": group.count(),
            });
            match renderer.render_one(Event::Followups.as_str(), context).await? {
                Ok(content) => {
                    let digest = NewEmail {
                        id: Uuid::now_v7(),
                        event: Event::Followups,
                        event_key: format!("followups:{}:{}", self.actor.id, group.recipient),
                        subject: user.map(|user| (RecordType::User, user.id)),
                        to_name: user.map(|user| user.name.as_ref().to_owned()),
                        to_email: email.clone(),
                        content,
                        unsubscribe: None,
                        time_zone: None,
                    };
                    digests.push((*group, digest));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot render follow-up digest");
                    fates.insert(group.recipient.clone(), Fate::Skipped(Reason::Template));
                    run.list(Some(email), group.count(), Some(Reason::Template));
                }
            }
        }
        for ((group, digest), taken) in digests.iter().zip(self.post(connection, &sender, &digests).await?) {
            let reason = (!taken).then_some(Reason::Suppressed);
            run.sent += i64::from(taken);
            run.list(Some(&digest.to_email), group.count(), reason);
            fates.insert(group.recipient.clone(), reason.map_or(Fate::Written(self.now), Fate::Skipped));
        }
        Ok(fates)
    }

    fn items(&self, group: &Group, people: &HashMap<Uuid, Person>) -> Vec<Value> {
        let zone = self.settings.time_zone.get();
        let item = |due: &Due| match due {
            Due::Lead(interaction) => item(interaction, people, zone),
            Due::Customer(interaction) => item(interaction, people, zone),
        };
        group.due.iter().take(MAX_LISTED).map(item).collect()
    }

    /// Writes digests to the outbox; returns for each whether it was accepted.
    async fn post(
        &self,
        connection: &mut PgConnection,
        sender: &Sender,
        digests: &[(&Group, NewEmail)],
    ) -> Result<Vec<bool>> {
        let workspace_id = self.actor.workspace_id;
        if self.mode.is_preview() {
            let keys: Vec<String> = digests.iter().map(|(group, _)| group.recipient.clone()).collect();
            let suppressed = suppressions::suppressed(connection, workspace_id, Event::Followups, &keys).await?;
            return Ok(keys.iter().map(|key| !suppressed.contains(key)).collect());
        }
        let emails: Vec<NewEmail> = digests.iter().map(|(_, digest)| digest.clone()).collect();
        let queued = mail::queue(connection, self.actor, sender, &emails).await?;
        Ok(queued.iter().map(|queued| *queued != Queued::Suppressed).collect())
    }

    /// Returns the users among the recipients, by address.
    async fn users(&self, connection: &mut PgConnection, groups: &[&Group]) -> Result<HashMap<String, Person>> {
        let keys: Vec<&str> = groups.iter().map(|group| group.recipient.as_str()).collect();
        // The owner of an address comes last, and so counts if users have the same one.
        let users: Vec<Person> = sqlx::query_as(
            "SELECT id, name, email FROM users WHERE workspace_id = $1 AND email_key = ANY ($2)
             ORDER BY email_duplicate DESC",
        )
        .bind(self.actor.workspace_id)
        .bind(keys)
        .fetch_all(connection)
        .await?;
        Ok(users.into_iter().map(|user| (user.email.key(), user)).collect())
    }

    /// Returns the leads and customers whose interactions are listed.
    async fn people(&self, connection: &mut PgConnection, groups: &[&Group]) -> Result<HashMap<Uuid, Person>> {
        let (mut leads, mut customers) = (HashSet::new(), HashSet::new());
        for due in groups.iter().flat_map(|group| group.due.iter().take(MAX_LISTED)) {
            match due {
                Due::Lead(interaction) => leads.insert(interaction.lead_id),
                Due::Customer(interaction) => customers.insert(interaction.customer_id),
            };
        }
        let mut people = HashMap::new();
        for (sql, ids) in [
            ("SELECT id, name, email FROM leads WHERE workspace_id = $1 AND id = ANY ($2)", leads),
            ("SELECT id, name, email FROM customers WHERE workspace_id = $1 AND id = ANY ($2)", customers),
        ] {
            let found: Vec<Person> = sqlx::query_as(sql)
                .bind(self.actor.workspace_id)
                .bind(ids.into_iter().collect::<Vec<_>>())
                .fetch_all(&mut *connection)
                .await?;
            people.extend(found.into_iter().map(|person| (person.id, person)));
        }
        Ok(people)
    }

    /// Marks the interactions in digests as followed up, and counts all of them.
    async fn mark(
        &self,
        connection: &mut PgConnection,
        groups: Vec<Group>,
        fates: &HashMap<String, Fate>,
        run: &mut FollowedUp,
    ) -> Result<()> {
        let (mut leads, mut customers) = (Vec::new(), Vec::new());
        for Group { recipient, due, .. } in groups {
            let written = match fates.get(&recipient) {
                Some(Fate::Written(at)) => *at,
                Some(Fate::Skipped(reason)) => {
                    run.skipped.add(*reason, due.len() as i64);
                    continue;
                }
                None => continue,
            };
            for due in due {
                // Changes made after the digest was written belong to the next digest.
                if due.updated_at() > written && written < self.now {
                    run.skipped.add(Reason::Changed, 1);
                    continue;
                }
                run.followed_up += 1;
                match due {
                    Due::Lead(interaction) => leads.push(followed_up(interaction, self.now)),
                    Due::Customer(interaction) => customers.push(followed_up(interaction, self.now)),
                }
            }
        }
        if self.mode.is_preview() {
            return Ok(());
        }
        records::update_all(connection, self.actor, &leads).await?;
        records::update_all(connection, self.actor, &customers).await
    }
}

/// An interaction before and after it is followed up.
pub(super) fn followed_up<I: Interaction>(before: I, now: Time) -> (I, I) {
    let mut after = before.clone();
    after.follow_up(now);
    records::mark_changed(&before, &mut after, now);
    (before, after)
}

impl Group {
    /// How many interactions the recipient has in all.
    fn count(&self) -> i64 {
        self.due.len() as i64 + self.more
    }
}

impl Due {
    fn updated_at(&self) -> Time {
        match self {
            Self::Lead(interaction) => interaction.updated_at,
            Self::Customer(interaction) => interaction.updated_at,
        }
    }
}

/// An interaction as listed in a digest, with its date in the workspace's calendar.
fn item<I: Interaction>(interaction: &I, people: &HashMap<Uuid, Person>, zone: Tz) -> Value {
    let person = people.get(&interaction.parent_id());
    let (next_action, date) = interaction.next();
    json!({
        "name": person.map(|person| &person.name),
        "email": person.map(|person| &person.email),
        "kind": I::WITH,
        "next_action": next_action,
        "next_action_date": date.map(|date| date.with_timezone(&zone).date_naive()),
        "subject": interaction.subject(),
    })
}
