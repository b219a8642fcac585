CREATE INDEX suppressions_job_id_idx ON suppressions (workspace_id, job_id, id) WHERE job_id IS NOT NULL;
