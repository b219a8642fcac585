-- The trace in which an event happened.
SET LOCAL lock_timeout = '5s';
ALTER TABLE events ADD COLUMN trace_context text;
