-- What operators did. A row is committed before its action begins and completed after it, so an action whose process
-- died stays without an end.
CREATE TABLE operator_actions (
    id          uuid        NOT NULL,
    -- NULL for a command on the server.
    operator_id uuid,
    -- The name of the operator, or the user and the machine of a command.
    actor       text        NOT NULL,
    source      text        NOT NULL,
    action      text        NOT NULL,
    arguments   jsonb       NOT NULL,
    -- How many jobs or emails it was asked to change, and how many it changed.
    matched     bigint,
    done        bigint,
    -- What else became of it, such as the jobs that it left out.
    result      jsonb,
    error       text,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT operator_actions_pkey PRIMARY KEY (id),
    CONSTRAINT operator_actions_source_check CHECK (source IN ('cli', 'api', 'console'))
);
CREATE INDEX operator_actions_started_at_idx ON operator_actions (started_at, id);
