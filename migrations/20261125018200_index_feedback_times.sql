-- The requests and the answers of a period, counted from the indexes alone.
CREATE INDEX feedback_requested_at_idx ON feedback (workspace_id, requested_at) INCLUDE (answered_at);
CREATE INDEX feedback_answered_at_idx ON feedback (workspace_id, answered_at) INCLUDE (rating, category)
    WHERE answered_at IS NOT NULL;
