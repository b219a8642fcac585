-- Answers of reports that take long, so that callers share them; none is given that is older than a
-- minute. Losing them costs nothing, so they are not logged.
CREATE UNLOGGED TABLE reports (
    workspace_id uuid        NOT NULL,
    name         text        NOT NULL,
    -- What was asked for, in one form.
    parameters   text        NOT NULL,
    -- json, not jsonb: it goes out as it was written.
    answer       json        NOT NULL,
    -- The moment of whose data it tells, and how long making it took.
    as_of        timestamptz NOT NULL,
    took_ms      integer     NOT NULL,
    CONSTRAINT reports_pkey PRIMARY KEY (workspace_id, name, parameters)
);
