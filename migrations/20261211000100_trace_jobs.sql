-- The trace that a job continues: W3C traceparent, and after a space tracestate. NULL without one.
SET LOCAL lock_timeout = '5s';
ALTER TABLE jobs ADD COLUMN trace_context text;
