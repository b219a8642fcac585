-- The audit log lists events by their ids, which rise with time, whether or not they have a number. The table was
-- created by this version.
CREATE INDEX events_id_idx ON events (workspace_id, id);
