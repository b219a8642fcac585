-- When a lead first reached each stage. Columns and not rows of another table, nor a trigger: either
-- would cost an import a part of its speed.
ALTER TABLE leads
    ADD COLUMN contacted_at   timestamptz,
    ADD COLUMN qualified_at   timestamptz,
    ADD COLUMN proposal_at    timestamptz,
    ADD COLUMN negotiation_at timestamptz,
    ADD COLUMN converted_at   timestamptz,
    ADD COLUMN won_at         timestamptz,
    ADD COLUMN lost_at        timestamptz;

-- What is known of the leads that are there: the changes of status that their history has, and the
-- status they were made with, which is that before the first change.
WITH changes AS (
    SELECT workspace_id, record_id, id, former->>'status' AS former, latter->>'status' AS latter, created_at
    FROM history WHERE record_type = 'lead' AND action = 'updated' AND latter ? 'status'
),
firsts AS (
    SELECT DISTINCT ON (workspace_id, record_id) workspace_id, record_id, former FROM changes
    ORDER BY workspace_id, record_id, id
),
reached AS (
    SELECT workspace_id, record_id, latter AS status, created_at AS at FROM changes
    UNION ALL
    SELECT leads.workspace_id, leads.id, coalesce(firsts.former, leads.status), leads.created_at
    FROM leads LEFT JOIN firsts ON firsts.workspace_id = leads.workspace_id AND firsts.record_id = leads.id
),
stages AS (
    SELECT workspace_id, record_id,
        min(at) FILTER (WHERE status = 'contacted') AS contacted_at,
        min(at) FILTER (WHERE status = 'qualified') AS qualified_at,
        min(at) FILTER (WHERE status = 'proposal') AS proposal_at,
        min(at) FILTER (WHERE status = 'negotiation') AS negotiation_at,
        min(at) FILTER (WHERE status = 'converted') AS converted_at,
        min(at) FILTER (WHERE status = 'won') AS won_at,
        min(at) FILTER (WHERE status = 'lost') AS lost_at
    FROM reached WHERE status <> 'new' GROUP BY workspace_id, record_id
)
UPDATE leads SET contacted_at = stages.contacted_at, qualified_at = stages.qualified_at,
    proposal_at = stages.proposal_at, negotiation_at = stages.negotiation_at, converted_at = stages.converted_at,
    won_at = stages.won_at, lost_at = stages.lost_at
FROM stages WHERE stages.workspace_id = leads.workspace_id AND stages.record_id = leads.id;
