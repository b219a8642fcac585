//! What needs somebody's attention.

use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use shared::accounts::scopes::Scope;

use super::summary::Summary;
use crate::console::parts;
use crate::console::refusal::Result;
use crate::console::session::Visit;

/// Jobs that failed before these days are history.
const RECENT_DAYS: i64 = 7;

/// What waits for a decision; `None` where the key may not know.
pub(super) struct Attention {
    hold: Option<String>,
    failed_jobs: Option<u64>,
    unknown_emails: Option<u64>,
    disabled_webhooks: Option<u64>,
}

#[derive(Deserialize)]
struct Me {
    email_hold: Option<String>,
}

/// Reads what needs attention.
pub(super) async fn read(visit: &Visit) -> Result<Attention> {
    let since = (Utc::now() - TimeDelta::days(RECENT_DAYS)).date_naive();
    let failed = format!("/jobs?status=failed&finished_at[gte]={since}");
    let (me, failed_jobs, unknown_emails, disabled_webhooks) = tokio::try_join!(
        visit.crm.get::<Me>("/me"),
        count_if(visit.may_see_jobs(), visit, &failed),
        count_if(visit.may(Scope::EmailsRead), visit, "/emails?state=unknown"),
        count_if(visit.may(Scope::Webhooks), visit, "/webhooks?enabled=false&disabled_at[ne]=null"),
    )?;
    Ok(Attention { hold: me.email_hold, failed_jobs, unknown_emails, disabled_webhooks })
}

async fn count_if(allowed: bool, visit: &Visit, path: &str) -> Result<Option<u64>> {
    if allowed { count(visit, path).await.map(Some) } else { Ok(None) }
}

async fn count(visit: &Visit, path: &str) -> Result<u64> {
    let listing = visit.crm.list::<Value>(&format!("{path}&limit=1&count=true")).await?;
    Ok(listing.total.unwrap_or_default())
}

impl Attention {
    pub fn render(&self, visit: &Visit, summary: Option<&Summary>) -> Markup {
        let due = summary.map_or(0, Summary::due_followups);
        let failed = self.failed_jobs.unwrap_or_default();
        let unknown = self.unknown_emails.unwrap_or_default();
        let webhooks = self.disabled_webhooks.unwrap_or_default();
        let is_calm = self.hold.is_none() && failed + unknown + due + webhooks == 0;
        parts::section(
            "Needs attention",
            &html! {
                @if is_calm { p.quiet { "Nothing needs attention." } }
                @else {
                    ul.attention {
                        @if let Some(hold) = &self.hold {
                            li { (parts::link_if(visit.may(Scope::EmailsRead), "/console/emails?state=queued", "Email is on hold")) (about(why(hold))) }
                        }
                        @if failed > 0 {
                            li { a href="/console/jobs?status=failed" { (number(failed, "failed job", "failed jobs")) } (about("In the last seven days.")) }
                        }
                        @if unknown > 0 {
                            li {
                                a href="/console/emails?state=unknown" { (number(unknown, "email", "emails")) " with an unknown outcome" }
                                (about("Decide whether they were sent."))
                            }
                        }
                        @if due > 0 {
                            li {
                                @let due = number(due, "follow-up is due", "follow-ups are due");
                                (parts::link_if(visit.may(Scope::Workflows), "/console/jobs/start", &due))
                                (about("The workflow of follow-ups notifies their owners."))
                            }
                        }
                        @if webhooks > 0 {
                            li {
                                a href="/console/settings/webhooks" { (number(webhooks, "disabled webhook", "disabled webhooks")) }
                                (about("Deliveries failed for five days."))
                            }
                        }
                    }
                }
            },
        )
    }
}

/// The reason of a hold, without its beginning, as a sentence.
fn why(hold: &str) -> &str {
    hold.split_once(": ").map_or("An operator must release it.", |(_, why)| why)
}

fn about(text: &str) -> Markup {
    html! { span.hint { (text) } }
}

fn number(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", parts::count(number), if number == 1 { one } else { many })
}
