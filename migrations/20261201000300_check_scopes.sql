SET LOCAL lock_timeout = '5s';
ALTER TABLE suppressions ADD CONSTRAINT suppressions_scope_check CHECK (scope IN ('marketing', 'all')) NOT VALID;
