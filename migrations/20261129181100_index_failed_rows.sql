CREATE INDEX job_errors_failed_idx ON job_errors (workspace_id, job_id, line) WHERE outcome = 'failed';
