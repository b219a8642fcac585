-- A job that gave its slot up to another workspace waits for its next claim like any other, and is
-- still running to callers. They see attempts of their own count, too: one more after each failure
-- and each rescue, and none for a hand-over or a restart of a worker.
ALTER TABLE jobs ADD COLUMN yielded boolean NOT NULL DEFAULT false;
ALTER TABLE jobs ADD COLUMN retries integer NOT NULL DEFAULT 0;
