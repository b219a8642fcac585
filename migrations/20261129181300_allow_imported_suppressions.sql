SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions DROP CONSTRAINT suppressions_reason_check;
