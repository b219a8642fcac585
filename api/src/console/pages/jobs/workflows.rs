//! The workflows that people start.

use shared::crm::leads::{LeadSource, LeadStatus};

use crate::console::lists::Filter;
use crate::console::parts::words;

/// A workflow over the whole workspace, with a dry run.
pub(super) struct Workflow {
    /// Its name in paths.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The path that starts it.
    pub path: &'static str,
    /// The count of its result that has the emails it writes.
    pub emails: &'static str,
    /// To whom the emails go.
    pub to: &'static str,
    /// What it can be limited to, as parameters of the API.
    pub filters: fn() -> Vec<Filter>,
}

/// All of them.
pub(super) const WORKFLOWS: [Workflow; 3] = [
    Workflow {
        name: "nurture",
        title: "Nurture",
        about: "Enrols the eligible leads that match, and sends each enrolled lead the next email of the sequence if its \
                step is due.",
        path: "/leads/nurture/start",
        emails: "sent",
        to: "leads",
        filters: of_leads,
    },
    Workflow {
        name: "follow-ups",
        title: "Follow-ups",
        about: "Sends each user one email with the due next actions of the leads and customers assigned to them.",
        path: "/followups/process",
        emails: "sent",
        to: "users",
        filters: Vec::new,
    },
    Workflow {
        name: "feedback-reminders",
        title: "Feedback reminders",
        about: "Reminds customers who have not answered a request for feedback, at most twice, and lets requests expire \
                that were reminded twice.",
        path: "/feedback/process-reminders",
        emails: "reminded",
        to: "customers",
        filters: Vec::new,
    },
];

/// The workflow of a path.
pub(super) fn find(name: &str) -> Option<&'static Workflow> {
    WORKFLOWS.iter().find(|workflow| workflow.name == name)
}

fn of_leads() -> Vec<Filter> {
    vec![
        Filter::choice("status", "Status", LeadStatus::WORDS.iter().map(|word| (*word, words(word)))),
        Filter::choice("source", "Source", LeadSource::WORDS.iter().map(|word| (*word, words(word)))),
        Filter::input("score[gte]", "Score from", "number"),
        Filter::input("created_at[gte]", "Created since", "date"),
        Filter::input("created_at[lt]", "Created before", "date"),
        Filter::input("company", "Company", "text"),
        Filter::input("assigned_to", "Assigned to (user id)", "text"),
    ]
}
