-- What all workers know of a mail server that ends connections after the final dot: one row.
CREATE TABLE mail_breaks (
    is_only      boolean     NOT NULL DEFAULT true,
    -- Messages in a row that got no answer.
    in_a_row     integer     NOT NULL DEFAULT 0,
    -- Messages that were tried on their own since, and got none either.
    probes       integer     NOT NULL DEFAULT 0,
    -- When the next one may be tried.
    next_at      timestamptz NOT NULL DEFAULT now(),
    -- The one that is tried now.
    workspace_id uuid,
    email_id     uuid,
    CONSTRAINT mail_breaks_pkey PRIMARY KEY (is_only),
    CONSTRAINT mail_breaks_only_check CHECK (is_only)
)
WITH (fillfactor = 50);

INSERT INTO mail_breaks DEFAULT VALUES;
