-- The nightly run becomes a schedule, and its runs become rows of the table of all runs: one row for each slot of a
-- schedule, or each start by a caller. The row and its job are written in one transaction.

INSERT INTO schedules (workspace_id, id, kind, cron, time_zone, overlap, catch_up, passed_until, last_date, due_at, created_at)
SELECT workspaces.id, gen_random_uuid(), 'nightly',
    -- 02:00 unless the workspace has set another time.
    split_part(nightly.at, ':', 2)::integer || ' ' || split_part(nightly.at, ':', 1)::integer || ' * * *',
    coalesce(settings.fields ->> 'time_zone', 'UTC'), 'queue', 'latest',
    coalesce(runs.last_at, workspaces.created_at), runs.last_date, now(), workspaces.created_at
FROM workspaces
LEFT JOIN settings ON settings.workspace_id = workspaces.id
CROSS JOIN LATERAL (SELECT coalesce(settings.fields ->> 'nightly_at', '02:00') AS at) AS nightly
LEFT JOIN (
    SELECT workspace_id, max(date) AS last_date, max(created_at) AS last_at
    FROM scheduled_runs WHERE kind = 'nightly' GROUP BY workspace_id
) AS runs ON runs.workspace_id = workspaces.id;

ALTER TABLE scheduled_runs RENAME TO nightly_runs;
ALTER TABLE nightly_runs RENAME CONSTRAINT scheduled_runs_pkey TO nightly_runs_pkey;

CREATE TABLE scheduled_runs (
    workspace_id uuid        NOT NULL,
    -- Rises with time.
    id           uuid        NOT NULL,
    schedule_id  uuid        NOT NULL,
    -- NULL for a run that a caller started.
    slot         timestamptz,
    -- The local date that a nightly run is for.
    date         date,
    job_id       uuid,
    -- Why there is no job, or how the job ended, once that has been looked at.
    status       text,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT scheduled_runs_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT scheduled_runs_schedule_id_fkey FOREIGN KEY (workspace_id, schedule_id)
        REFERENCES schedules (workspace_id, id) ON DELETE CASCADE
);

INSERT INTO scheduled_runs (workspace_id, id, schedule_id, slot, date, job_id, status, created_at)
SELECT runs.workspace_id,
    overlay(lpad(to_hex((extract(epoch FROM runs.created_at) * 1000)::bigint), 12, '0')
        || translate(substr(gen_random_uuid()::text, 14), '-', '') PLACING '7' FROM 13 FOR 1)::uuid,
    schedules.id, NULL, runs.date, nullif(runs.job_id, '00000000-0000-0000-0000-000000000000'),
    CASE WHEN runs.job_id = '00000000-0000-0000-0000-000000000000' THEN 'set_aside' END, runs.created_at
FROM nightly_runs AS runs
JOIN schedules ON schedules.workspace_id = runs.workspace_id AND schedules.kind = runs.kind;

DROP TABLE nightly_runs;

CREATE UNIQUE INDEX scheduled_runs_slot_key ON scheduled_runs (workspace_id, schedule_id, slot);
CREATE UNIQUE INDEX scheduled_runs_date_key ON scheduled_runs (workspace_id, schedule_id, date) WHERE date IS NOT NULL;
CREATE INDEX scheduled_runs_schedule_idx ON scheduled_runs (workspace_id, schedule_id, id);
-- Runs whose jobs may still be at work.
CREATE INDEX scheduled_runs_open_idx ON scheduled_runs (workspace_id, schedule_id, id)
    WHERE status IS NULL AND job_id IS NOT NULL;
