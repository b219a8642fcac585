-- What happened, with and without a number yet, as the audit log lists it.
CREATE VIEW audit_log AS
    SELECT workspace_id, id, type, subject_type, subject_id, actor_type, actor_id, request_id, created_at
    FROM events
    UNION ALL
    SELECT workspace_id, id, type, subject_type, subject_id, actor_type, actor_id, request_id, created_at
    FROM new_events;
