//! Feedback: what customers were asked, and what they answered.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::fields::{Category, Notes, Rating, Time};
use crate::lists::{Filter, FilterKind, Order, OrderKind, Spec};
use crate::records::{Record, RecordType};
use crate::{record, words};

words! {
    /// How far feedback is.
    FeedbackStatus {
        /// The customer was asked.
        Requested = "requested",
        /// They answered.
        Answered = "answered",
        /// They did not, and are not reminded any more; an answer is still taken.
        Expired = "expired",
    }
}

record! {
    /// Feedback as callers see it.
    Feedback, FeedbackChanges in "feedback" {
        /// Who was asked.
        required customer_id: Uuid,
        /// How far it is.
        kept status: FeedbackStatus = FeedbackStatus::Requested,
        /// How content they are, from 1 to 5.
        optional rating: Option<Rating>,
        /// What they say.
        optional comment: Option<Notes>,
        /// What it is about, in their words.
        optional category: Option<Category>,
        /// When the request was mailed; until then, when it was made.
        kept requested_at: Time = Time::UNIX_EPOCH,
        /// How often they were reminded.
        kept reminders: i16 = 0,
        /// When they last were.
        fixed last_reminder_at: Option<Time>,
        /// When they answered.
        fixed answered_at: Option<Time>,
        /// When waiting for an answer ended.
        fixed expired_at: Option<Time>,
    }
}

impl Record for Feedback {
    const TYPE: RecordType = RecordType::Feedback;
    const REFERENCES: &'static [(&'static str, &'static str)] = &[("customer_id", "customers")];
    const LIST: Spec = Spec {
        table: "feedback",
        filters: &[
            Filter { name: "status", kind: FilterKind::Word(FeedbackStatus::WORDS) },
            Filter { name: "rating", kind: FilterKind::Number },
            Filter { name: "category", kind: FilterKind::Text },
            Filter { name: "customer_id", kind: FilterKind::Id },
            Filter { name: "answered_at", kind: FilterKind::Time },
            Filter { name: "created_at", kind: FilterKind::Time },
            Filter { name: "updated_at", kind: FilterKind::Time },
        ],
        orders: &[Order { name: "created_at", expression: "created_at", kind: OrderKind::Time }],
        searchable: false,
        branches: Some(("status", FeedbackStatus::WORDS)),
    };

    fn settle(&mut self, before: Option<&Self>) {
        if before.is_none() {
            self.requested_at = self.created_at;
        }
    }

    fn example() -> Value {
        json!({
            "customer_id": "019ab3f2-5c11-7d02-8e6b-0f4c2d9b1a37",
            "rating": 5,
            "comment": "Great service!",
            "category": "support"
        })
    }
}
