-- What customers were asked, and what they answered.
CREATE TABLE feedback (
    workspace_id     uuid        NOT NULL,
    id               uuid        NOT NULL,
    customer_id      uuid        NOT NULL,
    status           text        NOT NULL,
    rating           smallint,
    comment          text,
    category         text,
    -- When the request was mailed, the last reminder went out, and the answer came.
    requested_at     timestamptz NOT NULL,
    reminders        smallint    NOT NULL DEFAULT 0,
    last_reminder_at timestamptz,
    answered_at      timestamptz,
    expired_at       timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT feedback_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT feedback_status_check CHECK (status IN ('requested', 'answered', 'expired')),
    CONSTRAINT feedback_rating_check CHECK (rating BETWEEN 1 AND 5),
    CONSTRAINT feedback_answered_check CHECK ((status = 'answered') = (answered_at IS NOT NULL) AND (status = 'answered') = (rating IS NOT NULL)),
    CONSTRAINT feedback_reminders_check CHECK (reminders >= 0),
    CONSTRAINT feedback_customer_id_fkey FOREIGN KEY (workspace_id, customer_id) REFERENCES customers (workspace_id, id)
);
-- A customer is asked one thing at a time.
CREATE UNIQUE INDEX feedback_open_key ON feedback (workspace_id, customer_id) WHERE status = 'requested';
CREATE INDEX feedback_status_idx ON feedback (workspace_id, status, created_at, id);
CREATE INDEX feedback_customer_id_idx ON feedback (workspace_id, customer_id, created_at, id);
