-- Days of segments and health are those of the workspace's time zone, and a score of little data has no band.

SET LOCAL lock_timeout = '5s';

-- In the terms of the field.
ALTER TABLE score_states RENAME COLUMN recency_cuts TO recency_thresholds;
ALTER TABLE score_states RENAME COLUMN frequency_cuts TO frequency_thresholds;
ALTER TABLE score_states RENAME COLUMN monetary_cuts TO monetary_thresholds;
ALTER TABLE score_states RENAME COLUMN cut_at TO thresholds_at;
ALTER TABLE score_states RENAME COLUMN cut_after TO reclassify_after;
ALTER TABLE customer_scores RENAME COLUMN former_segment TO previous_segment;

-- Snapshots count customers without a band as 'none'.
UPDATE band_snapshots SET band = 'none' WHERE band = 'unknown';

-- All customers are scored again, by the first reader or by the job that takes the daily snapshot.
UPDATE score_states SET date = NULL;

-- Leads by the time at which they were converted, won or lost.
CREATE INDEX leads_converted_at_idx ON leads (workspace_id, converted_at) INCLUDE (source, status, assigned_to)
    WHERE converted_at IS NOT NULL;
CREATE INDEX leads_won_at_idx ON leads (workspace_id, won_at) INCLUDE (source, status, assigned_to)
    WHERE won_at IS NOT NULL;
CREATE INDEX leads_lost_at_idx ON leads (workspace_id, lost_at) INCLUDE (source, status, assigned_to)
    WHERE lost_at IS NOT NULL;
