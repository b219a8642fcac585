-- Leads that nurture knows already, and those that were not imported, are enrolled as of their creation.
-- Backfills run in the order of their names: this one after `leads`, whose columns the table's checks need.
INSERT INTO backfills (workspace_id, name) SELECT id, 'leads_enrolment' FROM workspaces;
