-- Who created an interaction: the API key, or the job of nurture. An import is in import_job_id. Interactions from
-- before this migration have none.

ALTER TABLE lead_interactions ADD COLUMN created_by_type text;
ALTER TABLE lead_interactions ADD COLUMN created_by_id uuid;
ALTER TABLE customer_interactions ADD COLUMN created_by_type text;
ALTER TABLE customer_interactions ADD COLUMN created_by_id uuid;

-- What a job created.
CREATE INDEX lead_interactions_job_idx ON lead_interactions (workspace_id, created_by_id, id)
    WHERE created_by_type = 'job';
