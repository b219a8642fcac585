-- The orders and interactions of a customer are packed into one value beside the scores, so that reports
-- about all customers read one row for each of them.

SET LOCAL lock_timeout = '5s';

ALTER TABLE customer_scores ADD COLUMN activity bytea;
COMMENT ON COLUMN customer_scores.activity IS
    'Big-endian: the numbers of orders and of interactions (4 bytes each); for each order the microseconds since 1970, the quantity (8 each) and the number of its status (1); for each interaction the microseconds (8). NULL: read the records';

-- The time zone of the day as of which all customers were scored: it may change within the day.
ALTER TABLE score_states ADD COLUMN time_zone text;

-- All customers are scored again, by the first reader or by the job that takes the daily snapshot.
UPDATE score_states SET date = NULL;

-- The leads and customers of an owner, by whom reports are filtered.
CREATE INDEX leads_assigned_to_idx ON leads (workspace_id, assigned_to) WHERE assigned_to IS NOT NULL;
CREATE INDEX customers_assigned_to_idx ON customers (workspace_id, assigned_to) WHERE assigned_to IS NOT NULL;

-- The report on leads reads all leads once, and these times with them.
DROP INDEX leads_converted_at_idx;
DROP INDEX leads_won_at_idx;
DROP INDEX leads_lost_at_idx;
