-- An address of which only the SHA-256 is known is suppressed by it. Its email_key is 'sha256:' and the hash, which is
-- the normal form of no address, so that one index finds both.

SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD COLUMN email_hash text COLLATE "C";
ALTER TABLE suppressions ALTER COLUMN email DROP NOT NULL;
-- The backfill of email_key sets it to created_at.
ALTER TABLE suppressions ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
