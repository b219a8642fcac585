-- The worker processes. Each registers at its start and says every few seconds that it is there; leases name it.
CREATE TABLE workers (
    id             uuid        NOT NULL,
    host           text        NOT NULL,
    pid            integer     NOT NULL,
    version        text        NOT NULL,
    -- What it works on, and how many jobs of each queue at once.
    queues         text[]      NOT NULL,
    concurrency    integer     NOT NULL,
    -- Connections to the database that it opens at most.
    connections    integer     NOT NULL,
    started_at     timestamptz NOT NULL,
    heartbeat_at   timestamptz NOT NULL,
    -- Since when an operator lets it claim nothing.
    draining_since timestamptz,
    -- When it ended by itself.
    stopped_at     timestamptz,
    CONSTRAINT workers_pkey PRIMARY KEY (id)
);
