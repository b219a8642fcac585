-- Since when, and when last, a worker could not read the payload of a job.
ALTER TABLE jobs ADD COLUMN unreadable_since timestamptz;
ALTER TABLE jobs ADD COLUMN unreadable_at timestamptz;
