-- The worker that gives events their numbers. Others leave it to that worker until its term ends.
CREATE TABLE numbering (
    is_only boolean     NOT NULL DEFAULT true,
    holder  uuid        NOT NULL,
    until   timestamptz NOT NULL,
    CONSTRAINT numbering_pkey PRIMARY KEY (is_only),
    CONSTRAINT numbering_is_only_check CHECK (is_only)
);
