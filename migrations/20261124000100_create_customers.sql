-- Customers. Like leads: no foreign key to workspaces, words made by the program.
CREATE TABLE customers (
    workspace_id     uuid           NOT NULL,
    id               uuid           NOT NULL,
    name             text           NOT NULL,
    email            text           NOT NULL,
    phone            text,
    company          text,
    type             text           NOT NULL,
    status           text           NOT NULL,
    -- The lead they were. The lead's customer_id says the same from the other side, and both are
    -- written in one transaction.
    lead_id          uuid,
    billing_address  text,
    shipping_address text,
    payment_terms    text,
    credit_limit     numeric(15, 4),
    tax_id           text,
    notes            text,
    assigned_to      uuid,
    custom_fields    jsonb          NOT NULL,
    words            tsvector       NOT NULL,
    -- The import that made the row, by which an import is taken back.
    import_job_id    uuid,
    created_at       timestamptz    NOT NULL,
    updated_at       timestamptz    NOT NULL,
    CONSTRAINT customers_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT customers_type_check CHECK (type IN ('individual', 'business')),
    CONSTRAINT customers_status_check CHECK (status IN ('active', 'inactive', 'blocked')),
    CONSTRAINT customers_credit_limit_check CHECK (credit_limit >= 0),
    CONSTRAINT customers_lead_id_fkey FOREIGN KEY (workspace_id, lead_id) REFERENCES leads (workspace_id, id)
);

CREATE UNIQUE INDEX customers_email_key ON customers (workspace_id, lower(email COLLATE "C"));
-- A lead becomes one customer.
CREATE UNIQUE INDEX customers_lead_id_key ON customers (workspace_id, lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX customers_status_idx ON customers (workspace_id, status, created_at, id);
CREATE INDEX customers_words_idx ON customers USING gin (words);

ALTER TABLE leads ADD COLUMN import_job_id uuid;
