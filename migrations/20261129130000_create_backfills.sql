-- Rows that `crm-api migrate` rewrites in batches after the schema was changed. A row here is work to
-- do: a migration inserts one for each workspace, and the last batch deletes it. The programs do not
-- start work while any is left.
CREATE TABLE backfills (
    workspace_id uuid   NOT NULL,
    -- The table whose rows are rewritten.
    name         text   NOT NULL,
    -- The last row that was rewritten; rows are rewritten in the order of their ids.
    after_id     uuid   NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- How many rows were visited.
    done         bigint NOT NULL DEFAULT 0,
    CONSTRAINT backfills_pkey PRIMARY KEY (workspace_id, name)
);

-- Search words are stored without case and accents.
INSERT INTO backfills (workspace_id, name)
SELECT workspaces.id, tables.name FROM workspaces, unnest(ARRAY['leads', 'customers']) AS tables (name);
