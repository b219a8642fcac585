-- Where a workspace's events are delivered.
CREATE TABLE webhooks (
    workspace_id     uuid        NOT NULL,
    id               uuid        NOT NULL,
    url              text        NOT NULL,
    description      text,
    events           text[]      NOT NULL,
    bulk             text        NOT NULL,
    ordering         text        NOT NULL,
    rate_limit       integer,
    enabled          boolean     NOT NULL,
    -- The names of further headers, and a sealed JSON object of their values.
    header_names     text[]      NOT NULL,
    headers          bytea       NOT NULL,
    -- The sealed secrets that sign; the previous one for a day after a rotation.
    secret           bytea       NOT NULL,
    previous_secret  bytea,
    previous_until   timestamptz,
    -- What its owner may read.
    scopes           text[]      NOT NULL DEFAULT '{*}',
    -- The number of the workspace's last event before the endpoint was created or enabled.
    after_event      bigint      NOT NULL,
    -- Failed attempts in a row, and since when only attempts failed.
    failures         integer     NOT NULL DEFAULT 0,
    failing_since    timestamptz,
    disabled_at      timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    deleted_at       timestamptz,
    CONSTRAINT webhooks_pkey PRIMARY KEY (workspace_id, id)
);

-- The bodies that are delivered, byte for byte the same to every endpoint and on every attempt.
CREATE TABLE webhook_messages (
    workspace_id uuid        NOT NULL,
    -- The id of the event.
    id           uuid        NOT NULL,
    body         text        NOT NULL,
    created_at   timestamptz NOT NULL,
    CONSTRAINT webhook_messages_pkey PRIMARY KEY (workspace_id, id)
);

-- The delivery of an event to an endpoint. Its id is made from both, so it exists once.
CREATE TABLE webhook_deliveries (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- The endpoint, or a callback.
    webhook_id   uuid        NOT NULL,
    event_id     uuid        NOT NULL,
    event_type   text        NOT NULL,
    -- The event's subject, if the endpoint gets the events of a subject one after the other, and its number.
    subject_id   uuid,
    number       bigint      NOT NULL,
    state        text        NOT NULL,
    -- Rises with each recorded attempt and each decision, and fences late writes.
    attempt      integer     NOT NULL DEFAULT 0,
    -- Attempts since the delivery was created or retried by a caller.
    attempts     smallint    NOT NULL DEFAULT 0,
    run_at       timestamptz NOT NULL,
    status       smallint,
    latency_ms   integer,
    response     text,
    error        text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    delivered_at timestamptz,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (workspace_id, id)
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX webhook_deliveries_webhook_idx ON webhook_deliveries (workspace_id, webhook_id, id);
CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (workspace_id, webhook_id, run_at, id)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_subject_idx ON webhook_deliveries (workspace_id, webhook_id, subject_id, number, id)
    WHERE subject_id IS NOT NULL AND state IN ('pending', 'waiting');

-- One row for each workspace with webhooks: the worker that delivers holds its lease.
CREATE TABLE webhook_queues (
    workspace_id uuid        NOT NULL,
    -- The number of the last event that has its deliveries.
    last_event   bigint      NOT NULL,
    -- When work is due besides new events, or NULL.
    due_at       timestamptz,
    -- Only rises, and fences the writes of the worker that holds the lease.
    attempt      integer     NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    CONSTRAINT webhook_queues_pkey PRIMARY KEY (workspace_id)
)
WITH (fillfactor = 50);

-- Who wants to know the end of a job: a URL, or an endpoint.
CREATE TABLE webhook_callbacks (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    job_id       uuid        NOT NULL,
    url          text,
    webhook_id   uuid,
    -- The event with which it is answered, once there is one.
    event_id     uuid,
    created_at   timestamptz NOT NULL,
    CONSTRAINT webhook_callbacks_pkey PRIMARY KEY (workspace_id, id)
);
CREATE INDEX webhook_callbacks_job_idx ON webhook_callbacks (workspace_id, job_id);

-- The sealed secrets that sign for the URLs of callbacks.
CREATE TABLE webhook_callback_secrets (
    workspace_id    uuid        NOT NULL,
    secret          bytea       NOT NULL,
    previous_secret bytea,
    previous_until  timestamptz,
    CONSTRAINT webhook_callback_secrets_pkey PRIMARY KEY (workspace_id)
);

-- Endpoints that get an event for each record that a job wrote, and how far these are delivered.
CREATE TABLE webhook_walks (
    workspace_id uuid        NOT NULL,
    webhook_id   uuid        NOT NULL,
    job_id       uuid        NOT NULL,
    -- The number of the event that the job ended.
    number       bigint      NOT NULL,
    -- The type of record, and the last position among its records.
    stage        smallint    NOT NULL,
    after        uuid,
    created_at   timestamptz NOT NULL,
    CONSTRAINT webhook_walks_pkey PRIMARY KEY (workspace_id, webhook_id, job_id)
);
