SET LOCAL lock_timeout = '5s';
-- The time zone of the recipient, if their record has one, and when the sending window opens for which the
-- email waits or waited.
ALTER TABLE emails ADD COLUMN to_time_zone text, ADD COLUMN opens_at timestamptz;
