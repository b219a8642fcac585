-- What records were before they were changed or deleted, who did it and when.
CREATE TABLE history (
    workspace_id uuid        NOT NULL,
    -- Made in the order of time.
    id           uuid        NOT NULL,
    record_type  text        NOT NULL,
    record_id    uuid        NOT NULL,
    action       text        NOT NULL,
    actor_type   text        NOT NULL,
    actor_id     uuid        NOT NULL,
    request_id   text,
    -- updated: the changed fields as they were. deleted: the whole row.
    former       jsonb,
    -- updated: the changed fields as they became.
    latter       jsonb,
    -- deleted along with another record: the entry of that deletion.
    cause_id     uuid,
    created_at   timestamptz NOT NULL,
    CONSTRAINT history_pkey PRIMARY KEY (workspace_id, record_id, id),
    CONSTRAINT history_action_check CHECK (action IN ('updated', 'deleted', 'restored')),
    CONSTRAINT history_actor_type_check CHECK (actor_type IN ('key', 'job'))
);
-- What a deletion took along.
CREATE INDEX history_cause_id_idx ON history (workspace_id, cause_id) WHERE cause_id IS NOT NULL;
-- What a job did, to take it back.
CREATE INDEX history_job_idx ON history (actor_id, id) WHERE actor_type = 'job';
-- Deleted records whose time to be restored is over.
CREATE INDEX history_deleted_idx ON history (created_at) WHERE action = 'deleted';
