-- What caused an email: the job that wrote it, the request, and the trace that it continues.
SET LOCAL lock_timeout = '5s';
ALTER TABLE emails ADD COLUMN job_id uuid;
ALTER TABLE emails ADD COLUMN request_id text;
ALTER TABLE emails ADD COLUMN trace_context text;
