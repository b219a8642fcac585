-- Jobs that failed lately, which operators count and list. Jobs that succeed never enter it. Only 0.2.0 builds an index
-- on a large table while it is locked, since it is installed with both programs stopped.
SET LOCAL lock_timeout = '5s';
CREATE INDEX jobs_failed_idx ON jobs (finished_at) INCLUDE (queue, kind) WHERE status = 'failed';
