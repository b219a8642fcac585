-- The jobs that operators look for among a million that succeeded. A job that succeeds never enters it.
CREATE INDEX jobs_unsuccessful_idx ON jobs (workspace_id, status, id) WHERE status IN ('failed', 'cancelled');
