-- What operators have paused: a queue, a kind of job, or (by its id) a workspace. Nothing of it is claimed.
CREATE TABLE pauses (
    target     text        NOT NULL,
    name       text        NOT NULL,
    reason     text,
    created_at timestamptz NOT NULL,
    CONSTRAINT pauses_pkey PRIMARY KEY (target, name),
    CONSTRAINT pauses_target_check CHECK (target IN ('queue', 'kind', 'workspace'))
);
