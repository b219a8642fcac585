-- Who created a record: the API key, or the lead that was converted to the customer. An import is in import_job_id.
-- Records from before this migration have none.

ALTER TABLE leads ADD COLUMN created_by_type text;
ALTER TABLE leads ADD COLUMN created_by_id uuid;
ALTER TABLE customers ADD COLUMN created_by_type text;
ALTER TABLE customers ADD COLUMN created_by_id uuid;
ALTER TABLE orders ADD COLUMN created_by_type text;
ALTER TABLE orders ADD COLUMN created_by_id uuid;
ALTER TABLE feedback ADD COLUMN created_by_type text;
ALTER TABLE feedback ADD COLUMN created_by_id uuid;
