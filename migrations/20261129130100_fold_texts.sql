-- Texts are sorted, and names are filtered, without case and accents. No index uses this collation, so
-- another version of ICU needs no reindexing.
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level1', deterministic = false);

-- The list of the records that can be restored.
CREATE INDEX history_restorable_idx ON history (workspace_id, record_type, id)
    WHERE action = 'deleted' AND cause_id IS NULL;
