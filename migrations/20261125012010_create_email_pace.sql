-- When the next mail may leave, where there is a limit: for all mails ('' as scope), for a domain of
-- recipients, and for what a workspace has put off to a domain (the domain, a space, the workspace).
CREATE TABLE email_pace (
    scope   text        NOT NULL,
    free_at timestamptz NOT NULL,
    CONSTRAINT email_pace_pkey PRIMARY KEY (scope)
)
WITH (fillfactor = 50);
