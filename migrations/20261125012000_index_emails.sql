-- What a worker has leased is not due for others, and is not passed over by their looks.
DROP INDEX emails_due_idx;
CREATE INDEX emails_due_idx ON emails (workspace_id, run_at, id)
    WHERE state IN ('queued', 'deferred') AND lease_until IS NULL;

-- Lists are read state by state and merged, so that the few unknown ones are found among all that were sent.
DROP INDEX emails_list_idx;
CREATE INDEX emails_list_idx ON emails (workspace_id, state, id);

-- What waits to be sent to a record.
CREATE INDEX emails_subject_idx ON emails (workspace_id, subject_id) WHERE state IN ('queued', 'deferred');

-- What an operator must look at.
CREATE INDEX emails_unknown_idx ON emails (id) WHERE state = 'unknown';
