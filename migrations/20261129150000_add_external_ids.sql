-- The ids of records in the system of a caller. Compared byte by byte, and unique among the records of a kind in a
-- workspace. The indexes contain only records that have one, so that others do not pay for them.

ALTER TABLE leads ADD COLUMN external_id text COLLATE "C";
ALTER TABLE customers ADD COLUMN external_id text COLLATE "C";
ALTER TABLE lead_interactions ADD COLUMN external_id text COLLATE "C";
ALTER TABLE customer_interactions ADD COLUMN external_id text COLLATE "C";
ALTER TABLE orders ADD COLUMN external_id text COLLATE "C";
ALTER TABLE feedback ADD COLUMN external_id text COLLATE "C";

CREATE UNIQUE INDEX leads_external_id_key ON leads (workspace_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX customers_external_id_key ON customers (workspace_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX lead_interactions_external_id_key ON lead_interactions (workspace_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX customer_interactions_external_id_key ON customer_interactions (workspace_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX orders_external_id_key ON orders (workspace_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX feedback_external_id_key ON feedback (workspace_id, external_id)
    WHERE external_id IS NOT NULL;

-- What a dry run would have written.
ALTER TABLE import_seen ADD COLUMN external_id text COLLATE "C";
CREATE INDEX import_seen_external_id_idx ON import_seen (workspace_id, import_id, external_id)
    WHERE external_id IS NOT NULL;
