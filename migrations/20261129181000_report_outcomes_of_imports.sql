-- Rows that an import skipped, or wrote with warnings, are listed like rejected ones, each with all its faults.

SET LOCAL lock_timeout = '5s';
ALTER TABLE job_errors ADD COLUMN outcome text NOT NULL DEFAULT 'failed';
ALTER TABLE job_errors ADD COLUMN faults jsonb NOT NULL DEFAULT '[]';
