-- An import stores which of its lines said that a person wants no email. Undoing the import takes it back.

SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD COLUMN job_id uuid;
ALTER TABLE suppressions ADD COLUMN line bigint;
