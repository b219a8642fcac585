-- Leads. No foreign key to workspaces: it would halve the speed of imports, and a workspace's rows
-- are reached only through a key of that workspace.
CREATE TABLE leads (
    workspace_id  uuid             NOT NULL,
    id            uuid             NOT NULL,
    name          text             NOT NULL,
    email         text             NOT NULL,
    phone         text,
    company       text,
    source        text             NOT NULL,
    status        text             NOT NULL,
    score         double precision NOT NULL,
    campaign_id   uuid,
    assigned_to   uuid,
    customer_id   uuid,
    notes         text,
    last_contact  timestamptz,
    custom_fields jsonb            NOT NULL,
    -- The words of name, company, phone and email, each after four characters that stand for the
    -- workspace, so that the index of words, too, keeps workspaces apart. Made by the program.
    words         tsvector         NOT NULL,
    created_at    timestamptz      NOT NULL,
    updated_at    timestamptz      NOT NULL,
    CONSTRAINT leads_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT leads_source_check CHECK (source IN ('campaign', 'website', 'referral', 'direct', 'social', 'email', 'other')),
    CONSTRAINT leads_status_check CHECK (status IN ('new', 'contacted', 'qualified', 'proposal', 'negotiation', 'converted', 'lost', 'won')),
    CONSTRAINT leads_score_check CHECK (score BETWEEN 0 AND 100)
);

-- Compared without case in ASCII, whatever the locale of the database.
CREATE UNIQUE INDEX leads_email_key ON leads (workspace_id, lower(email COLLATE "C"));
-- Every list in the order of time walks this one index, one branch for each status, merged. There is
-- none on (workspace_id, created_at, id): beside it the planner prefers that one for a filter by
-- status, and then reads all newer leads of other statuses.
CREATE INDEX leads_status_idx ON leads (workspace_id, status, created_at, id);
CREATE INDEX leads_words_idx ON leads USING gin (words);
