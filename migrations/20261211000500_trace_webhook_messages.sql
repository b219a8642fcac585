-- The request and the trace of the event, for the log, for spans and for receivers.
SET LOCAL lock_timeout = '5s';
ALTER TABLE webhook_messages ADD COLUMN request_id text;
ALTER TABLE webhook_messages ADD COLUMN trace_context text;
