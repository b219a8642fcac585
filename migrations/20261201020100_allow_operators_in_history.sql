-- Operators change records, too: a release marks reminders and follow-ups as done.

SET LOCAL lock_timeout = '5s';

ALTER TABLE history DROP CONSTRAINT history_actor_type_check;
ALTER TABLE history ADD CONSTRAINT history_actor_type_check
    CHECK (actor_type IN ('key', 'job', 'customer', 'operator')) NOT VALID;
