-- What happened, in the order of insertion, until it has a number. Written in the transaction of what
-- happened, so that nothing acknowledged is without its event.
CREATE TABLE new_events (
    workspace_id uuid        NOT NULL,
    -- The order of the changes of one record: a later transaction inserts after the earlier one's commit.
    position     bigint      GENERATED ALWAYS AS IDENTITY,
    id           uuid        NOT NULL,
    type         text        NOT NULL,
    subject_type text        NOT NULL,
    subject_id   uuid        NOT NULL,
    actor_type   text        NOT NULL,
    actor_id     uuid,
    request_id   text,
    -- The subject as the API returned it, or the row of a job or an email.
    data         json,
    created_at   timestamptz NOT NULL,
    -- The transaction that inserted it.
    xact_id      xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT new_events_pkey PRIMARY KEY (workspace_id, position)
);
-- The numbering looks for the events of transactions that it has not seen finished.
CREATE INDEX new_events_xact_id_idx ON new_events (xact_id);

-- What happened, in the order in which readers see it.
CREATE TABLE events (
    workspace_id uuid        NOT NULL,
    -- Rises with time: it is at least the microseconds since 1970 when it was given.
    number       bigint      NOT NULL,
    id           uuid        NOT NULL,
    type         text        NOT NULL,
    subject_type text        NOT NULL,
    subject_id   uuid        NOT NULL,
    actor_type   text        NOT NULL,
    actor_id     uuid,
    request_id   text,
    -- NULL once the event is too old for the feed: then it is only in the audit log.
    data         json,
    created_at   timestamptz NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (workspace_id, number)
);
-- The events of one record.
CREATE INDEX events_subject_idx ON events (workspace_id, subject_id, number);

-- The last number of each workspace, and up to which number events were deleted.
CREATE TABLE event_cursors (
    workspace_id uuid   NOT NULL,
    number       bigint NOT NULL DEFAULT 0,
    pruned       bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_cursors_pkey PRIMARY KEY (workspace_id)
);
