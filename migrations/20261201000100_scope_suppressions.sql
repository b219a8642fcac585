-- A suppression says which emails it stops, and names the request that wrote it. What else speaks against emailing an
-- address is kept beside its suppression.

SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD COLUMN scope text NOT NULL DEFAULT 'all';
ALTER TABLE suppressions ADD COLUMN request_id text;
ALTER TABLE suppressions DROP CONSTRAINT suppressions_reason_check;

-- Who only wanted no marketing gets the digests of follow-ups.
UPDATE suppressions SET scope = 'marketing' WHERE reason IN ('unsubscribed', 'imported');

CREATE TABLE suppression_grounds (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    email        text,
    email_hash   text        COLLATE "C",
    email_key    text        COLLATE "C" NOT NULL,
    reason       text        NOT NULL,
    scope        text        NOT NULL,
    email_id     uuid,
    request_id   text,
    job_id       uuid,
    line         bigint,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT suppression_grounds_pkey PRIMARY KEY (workspace_id, id)
);
-- An import says it once, and so does everybody else.
CREATE UNIQUE INDEX suppression_grounds_email_key
    ON suppression_grounds (workspace_id, email_key, reason, coalesce(job_id, '00000000-0000-0000-0000-000000000000'));
CREATE INDEX suppression_grounds_job_id_idx ON suppression_grounds (workspace_id, job_id, id) WHERE job_id IS NOT NULL;
