-- What the clock has begun: each kind of run once for each local date of a workspace, however many
-- workers look at it. Written in the transaction that enqueues the job.
CREATE TABLE slots (
    workspace_id uuid        NOT NULL,
    kind         text        NOT NULL,
    date         date        NOT NULL,
    job_id       uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT slots_pkey PRIMARY KEY (workspace_id, kind, date)
);
