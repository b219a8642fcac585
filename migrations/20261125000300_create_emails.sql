-- The outbox: every mail that was or will be sent. A mail is written in the transaction of the event
-- that causes it, and its event has one mail, ever.
--
-- Keyed by id alone, as jobs are, since workers find due mails of all workspaces.
CREATE TABLE emails (
    id           uuid        NOT NULL,
    workspace_id uuid        NOT NULL,
    -- What caused it, and which occurrence of that: `nurture:{lead}:{step}`.
    event        text        NOT NULL,
    event_key    text        NOT NULL,
    -- The record it was written to: a lead, a customer or a user.
    subject_type text,
    subject_id   uuid,
    from_name    text,
    from_email   text        NOT NULL,
    reply_to     text,
    to_name      text,
    to_email     text        NOT NULL,
    -- The part of to_email behind the @, in lower case, for the limit of each domain.
    to_domain    text        NOT NULL,
    subject      text        NOT NULL,
    text_body    text        NOT NULL,
    html_body    text,
    -- Where its reader can unsubscribe; only bulk mails have it.
    unsubscribe  text,
    state        text        NOT NULL DEFAULT 'queued',
    -- The fence, as in jobs: it only ever rises.
    attempt      integer     NOT NULL DEFAULT 0,
    -- Tries in a row that the server, or the way to it, did not let through.
    failures     smallint    NOT NULL DEFAULT 0,
    run_at       timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz,
    -- What the server said last, or why there was nothing to hear.
    answer       text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    sent_at      timestamptz,
    CONSTRAINT emails_pkey PRIMARY KEY (id),
    CONSTRAINT emails_state_check CHECK
        (state IN ('queued', 'sending', 'sent', 'deferred', 'bounced', 'suppressed', 'unknown', 'cancelled')),
    CONSTRAINT emails_subject_check CHECK ((subject_type IS NULL) = (subject_id IS NULL))
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);

CREATE UNIQUE INDEX emails_event_key ON emails (workspace_id, event_key);
-- What is due, one workspace after the other, so that each gets its turn.
CREATE INDEX emails_due_idx ON emails (workspace_id, run_at, id) WHERE state IN ('queued', 'deferred');
-- What is held by a worker.
CREATE INDEX emails_lease_idx ON emails (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX emails_list_idx ON emails (workspace_id, id DESC);
-- What waits for an address, to be cancelled with it.
CREATE INDEX emails_to_email_idx ON emails (workspace_id, lower(to_email COLLATE "C"));

-- The addresses to which a workspace sends nothing.
CREATE TABLE suppressions (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    email        text        NOT NULL,
    -- unsubscribed by the reader, bounced by their server, or added by a caller.
    reason       text        NOT NULL,
    -- The mail by which it came to that.
    email_id     uuid,
    created_at   timestamptz NOT NULL,
    CONSTRAINT suppressions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT suppressions_reason_check CHECK (reason IN ('unsubscribed', 'bounced', 'manual'))
);
CREATE UNIQUE INDEX suppressions_email_key ON suppressions (workspace_id, lower(email COLLATE "C"));
