-- Leads that nurture knows already, and those that were not imported, are enrolled as of their creation.
INSERT INTO backfills (workspace_id, name) SELECT id, 'enrolment' FROM workspaces;
