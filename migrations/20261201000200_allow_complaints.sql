SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD CONSTRAINT suppressions_reason_check
    CHECK (reason IN ('unsubscribed', 'bounced', 'complained', 'manual', 'imported')) NOT VALID;
