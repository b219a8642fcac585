-- The domains that a workspace may send email from, beside those that the operator allows all of them.
-- In lower case, and with labels in punycode.
CREATE TABLE sender_domains (
    workspace_id uuid        NOT NULL,
    domain       text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sender_domains_pkey PRIMARY KEY (workspace_id, domain)
);
