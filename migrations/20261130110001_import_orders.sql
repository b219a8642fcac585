-- Orders, interactions and feedback are imported: the import that created a record is stored with it, and what its
-- fields cannot hold is kept in custom fields, as with leads and customers.

SET LOCAL lock_timeout = '5s';

ALTER TABLE orders ADD COLUMN custom_fields jsonb NOT NULL DEFAULT '{}';
ALTER TABLE orders ADD COLUMN import_job_id uuid;
ALTER TABLE lead_interactions ADD COLUMN custom_fields jsonb NOT NULL DEFAULT '{}';
ALTER TABLE lead_interactions ADD COLUMN import_job_id uuid;
ALTER TABLE customer_interactions ADD COLUMN custom_fields jsonb NOT NULL DEFAULT '{}';
ALTER TABLE customer_interactions ADD COLUMN import_job_id uuid;
ALTER TABLE feedback ADD COLUMN custom_fields jsonb NOT NULL DEFAULT '{}';
ALTER TABLE feedback ADD COLUMN import_job_id uuid;

-- The rows that can be restored.
UPDATE history SET former = former || '{"custom_fields": {}}'
WHERE action = 'deleted' AND record_type IN ('order', 'lead_interaction', 'customer_interaction', 'feedback')
    AND former IS NOT NULL AND NOT former ? 'custom_fields';

-- The order numbers that an import has met, with what the first line of each says. Dropped when the import ends.
CREATE TABLE import_lines (
    workspace_id uuid   NOT NULL,
    import_id    uuid   NOT NULL,
    number       text   COLLATE "C" NOT NULL,
    lines        bigint NOT NULL,
    first        jsonb  NOT NULL,
    CONSTRAINT import_lines_pkey PRIMARY KEY (workspace_id, import_id, number),
    CONSTRAINT import_lines_import_id_fkey FOREIGN KEY (workspace_id, import_id)
        REFERENCES imports (workspace_id, id) ON DELETE CASCADE
);
