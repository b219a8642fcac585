//! The events of emails: that they were sent, or will not be.
//!
//! Thousands of emails are sent each second, so their events are written by the statements that change their
//! state, and PostgreSQL writes what the API would return.

/// What a statement that changes emails returns for [`record_events!`].
macro_rules! reported {
    () => {
        concat!(crate::mail::emails::columns!(), ", attempt, request_id, trace_context")
    };
}

/// A time, as the API writes it.
macro_rules! time {
    ($column:literal) => {
        concat!("to_char(", $column, " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    };
}

/// The statement of [`record_events!`], for the rows of a part, joined with a table or not.
macro_rules! insert_events {
    ($workspace_id:literal, $of:literal, $join:literal) => {
        concat!(
            "INSERT INTO new_events (workspace_id, id, type, subject_type, subject_id, actor_type, request_id,
                 trace_context, data, created_at)
             SELECT ",
            $workspace_id,
            ", md5(id::text || state || attempt)::uuid, 'email.' || state, 'email', id, 'worker', request_id,
                 trace_context,
                 json_build_object('id', id, 'state', state, 'event', event, 'event_key', event_key,
                     'record', CASE WHEN subject_id IS NOT NULL
                         THEN json_build_object('type', subject_type, 'id', subject_id) END,
                     'from_name', from_name, 'from_email', from_email, 'reply_to', reply_to, 'to_name', to_name,
                     'to_email', to_email, 'subject', subject, 'failures', failures, 'next_try_at', NULL,
                     'answer', answer, 'created_at', ",
            crate::mail::report::time!("created_at"),
            ", 'updated_at', ",
            crate::mail::report::time!("updated_at"),
            ", 'sent_at', ",
            crate::mail::report::time!("sent_at"),
            "), updated_at
             FROM ",
            $of,
            $join
        )
    };
}

/// Records the events of emails that were sent, bounced or suppressed, or are unknown: those of the rows that
/// another part of the statement returns with [`reported!`]. `$1` is the workspace.
macro_rules! record_events {
    ($of:literal) => {
        concat!(crate::mail::report::insert_events!("$1", $of, ""))
    };
}

/// The same as a part of a statement that goes on. A table of the workspace in it keeps a distributed database
/// from writing on several nodes.
macro_rules! also_record_events {
    ($of:literal) => {
        concat!(crate::mail::report::insert_events!(
            "of_workspace",
            $of,
            " JOIN (SELECT workspace_id AS of_workspace, id AS known_id FROM emails WHERE workspace_id = $1) AS known
                 ON known_id = id"
        ))
    };
}

pub(super) use {also_record_events, insert_events, record_events, reported, time};
