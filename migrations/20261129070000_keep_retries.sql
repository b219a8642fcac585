-- Errors count by the place in the job at which they occur: how often and since when it has failed there. NULL
-- for nearly every job; a step that records anything new clears it.
ALTER TABLE jobs ADD COLUMN retry_state jsonb;

-- Jobs that wait for a retry, for readiness and metrics. Empty unless something is wrong.
CREATE INDEX jobs_retry_idx ON jobs (kind) WHERE status = 'queued' AND error IS NOT NULL;
