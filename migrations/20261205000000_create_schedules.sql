-- Schedules start jobs at their times. What is due follows from the row alone: its slots after `passed_until`, up to
-- the database's present time. `due_at` is when somebody has to look at it next, so that looking is cheap however
-- many schedules there are.
CREATE TABLE schedules (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    kind         text        NOT NULL,
    params       jsonb       NOT NULL DEFAULT '{}',
    -- One of these says when it runs.
    cron         text,
    every        text,
    at           timestamptz,
    time_zone    text        NOT NULL,
    overlap      text        NOT NULL,
    catch_up     text        NOT NULL,
    until        timestamptz,
    -- What the key that made it was allowed to do. Its jobs may do no more.
    scopes       text[]      NOT NULL DEFAULT '{*}',
    paused_at    timestamptz,
    -- Slots up to this time have been dealt with, or do not count.
    passed_until timestamptz NOT NULL,
    -- The latest local date that the nightly run has had.
    last_date    date,
    -- NULL for a schedule that has nothing to do.
    due_at       timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schedules_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT schedules_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id),
    CONSTRAINT schedules_timing_check CHECK (num_nonnulls(cron, every, at) = 1),
    CONSTRAINT schedules_overlap_check CHECK (overlap IN ('skip', 'queue')),
    CONSTRAINT schedules_catch_up_check CHECK (catch_up IN ('latest', 'none', 'all'))
);

-- A workspace has one nightly run.
CREATE UNIQUE INDEX schedules_nightly_key ON schedules (workspace_id) WHERE kind = 'nightly';
CREATE INDEX schedules_due_idx ON schedules (due_at) WHERE due_at IS NOT NULL;
