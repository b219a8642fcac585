-- The steps of the sequence that leads have had: each once, ever. They outlive the mails, and the lead
-- itself while it can be restored, so they do not refer to it.
CREATE TABLE nurture_steps (
    workspace_id uuid        NOT NULL,
    lead_id      uuid        NOT NULL,
    step_id      uuid        NOT NULL,
    taken_at     timestamptz NOT NULL,
    CONSTRAINT nurture_steps_pkey PRIMARY KEY (workspace_id, lead_id, step_id)
);

-- The mail that an interaction tells of; without one, a caller recorded it.
ALTER TABLE lead_interactions ADD COLUMN email_id uuid;

-- When somebody was told of the next action; changing it makes it due again.
ALTER TABLE lead_interactions ADD COLUMN followed_up_at timestamptz;
ALTER TABLE customer_interactions ADD COLUMN followed_up_at timestamptz;
CREATE INDEX lead_interactions_due_idx ON lead_interactions (workspace_id, next_action_date, id)
    WHERE next_action_date IS NOT NULL AND followed_up_at IS NULL;
CREATE INDEX customer_interactions_due_idx ON customer_interactions (workspace_id, next_action_date, id)
    WHERE next_action_date IS NOT NULL AND followed_up_at IS NULL;
