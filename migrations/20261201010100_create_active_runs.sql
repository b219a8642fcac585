-- Of some kinds of jobs, one at a time works in a workspace. A job takes the kind's row before it begins, and
-- keeps it until it ends, whatever its attempts; the next one replaces a job that has ended.
CREATE TABLE active_runs (
    workspace_id uuid NOT NULL,
    kind         text NOT NULL,
    job_id       uuid NOT NULL,
    CONSTRAINT active_runs_pkey PRIMARY KEY (workspace_id, kind)
);
