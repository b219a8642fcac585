-- Nurture sends emails to enrolled leads only: those with a time of enrolment that have not left. A lead that
-- was unenrolled without having been enrolled has only the two other columns.
SET LOCAL lock_timeout = '5s';
ALTER TABLE leads
    ADD COLUMN nurture_enrolled_at timestamptz,
    ADD COLUMN nurture_left_at     timestamptz,
    -- Why it left.
    ADD COLUMN nurture_left        text;
-- A run of nurture reads no other leads than these. The index is empty at first, so that it is built by one scan.
CREATE INDEX leads_enrolled_idx ON leads (workspace_id, id)
    WHERE nurture_enrolled_at IS NOT NULL AND nurture_left_at IS NULL;
