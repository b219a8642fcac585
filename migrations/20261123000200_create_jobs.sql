-- The ledger of long work. A row is the job that the API shows and the entry that workers claim.
--
-- Jobs are keyed by id alone, and the index by which workers find due work starts with the queue:
-- a key that starts with the workspace costs the queue a fifth of its speed.
CREATE TABLE jobs (
    id             uuid        NOT NULL,
    workspace_id   uuid        NOT NULL,
    queue          text        NOT NULL,
    kind           text        NOT NULL,
    status         text        NOT NULL DEFAULT 'queued',
    -- The fence. It only ever rises: with each claim, cancellation and rescue. A worker writes under
    -- the attempt it claimed, so what a late one writes meets no row.
    attempt        integer     NOT NULL DEFAULT 0,
    -- Errors since the last committed step, and deaths of its process since then.
    failures       smallint    NOT NULL DEFAULT 0,
    crashes        smallint    NOT NULL DEFAULT 0,
    run_at         timestamptz NOT NULL DEFAULT now(),
    lease_until    timestamptz,
    dedupe_key     text,
    subject_type   text,
    subject_id     uuid,
    payload        jsonb       NOT NULL,
    progress_done  bigint      NOT NULL DEFAULT 0,
    progress_total bigint,
    -- json, not jsonb: callers get its fields in the order in which they were written.
    result         json,
    error          text,
    request_id     text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_status_check CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT jobs_lease_check CHECK ((lease_until IS NOT NULL) = (status = 'running')),
    CONSTRAINT jobs_finished_check CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))),
    CONSTRAINT jobs_subject_check CHECK ((subject_type IS NULL) = (subject_id IS NULL))
)
-- Every job is updated at least twice, so the table is vacuumed early and often.
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);

-- What is due: one workspace after the other, so that a claim can give each its turn.
CREATE INDEX jobs_due_idx ON jobs (queue, workspace_id, run_at, id) WHERE status = 'queued' AND crashes = 0;
-- What is due and may have killed its process. Nearly always empty; claimed one by one, to run alone.
CREATE INDEX jobs_suspect_idx ON jobs (crashes, run_at) WHERE status = 'queued' AND crashes > 0;
-- What is held. By lease_until and not by status: a statement that names the status would be lured
-- here by the planner after ANALYZE, and walk all leases for each job it finishes.
CREATE INDEX jobs_lease_idx ON jobs (lease_until) WHERE lease_until IS NOT NULL;
-- A workspace's jobs, newest first: ids are made in the order of time.
CREATE INDEX jobs_list_idx ON jobs (workspace_id, id DESC);
-- The same work is under way at most once.
CREATE UNIQUE INDEX jobs_dedupe_key ON jobs (workspace_id, dedupe_key) WHERE dedupe_key IS NOT NULL AND finished_at IS NULL;
