-- The trace in which an event happened.
SET LOCAL lock_timeout = '5s';
ALTER TABLE new_events ADD COLUMN trace_context text;
