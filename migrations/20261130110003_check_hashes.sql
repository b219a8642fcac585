SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD CONSTRAINT suppressions_email_hash_check
    CHECK ((email IS NULL) = (email_hash IS NOT NULL)) NOT VALID;
