-- What was said and done with a lead, and what comes next.
CREATE TABLE lead_interactions (
    workspace_id     uuid        NOT NULL,
    id               uuid        NOT NULL,
    lead_id          uuid        NOT NULL,
    type             text        NOT NULL,
    notes            text,
    next_action      text,
    next_action_date timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT lead_interactions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT lead_interactions_type_check CHECK (type IN ('call', 'email', 'meeting', 'note')),
    CONSTRAINT lead_interactions_lead_id_fkey FOREIGN KEY (workspace_id, lead_id) REFERENCES leads (workspace_id, id)
);
CREATE INDEX lead_interactions_lead_id_idx ON lead_interactions (workspace_id, lead_id, created_at, id);

-- The same with a customer.
CREATE TABLE customer_interactions (
    workspace_id     uuid        NOT NULL,
    id               uuid        NOT NULL,
    customer_id      uuid        NOT NULL,
    type             text        NOT NULL,
    subject          text        NOT NULL,
    description      text,
    -- When it took place.
    date             timestamptz NOT NULL,
    outcome          text,
    next_action      text,
    next_action_date timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT customer_interactions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT customer_interactions_type_check CHECK (type IN ('email', 'call', 'meeting', 'support', 'purchase', 'other')),
    CONSTRAINT customer_interactions_customer_id_fkey FOREIGN KEY (workspace_id, customer_id) REFERENCES customers (workspace_id, id)
);
CREATE INDEX customer_interactions_customer_id_idx ON customer_interactions (workspace_id, customer_id, created_at, id);
CREATE INDEX customer_interactions_date_idx ON customer_interactions (workspace_id, customer_id, date, id);
