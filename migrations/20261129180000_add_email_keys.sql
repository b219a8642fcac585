-- The normal form of each email, by which emails are compared. `crm-api migrate` fills it: see
-- shared/src/values/email.rs.
--
-- Emails that were different can have the same normal form. The oldest row owns it, with
-- email_duplicate 0, and each of the others has a number of its own.

ALTER TABLE leads ADD COLUMN email_key text COLLATE "C";
ALTER TABLE leads ADD COLUMN email_duplicate integer NOT NULL DEFAULT 0;
ALTER TABLE customers ADD COLUMN email_key text COLLATE "C";
ALTER TABLE customers ADD COLUMN email_duplicate integer NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN email_key text COLLATE "C";
ALTER TABLE users ADD COLUMN email_duplicate integer NOT NULL DEFAULT 0;
ALTER TABLE suppressions ADD COLUMN email_key text COLLATE "C";
ALTER TABLE suppressions ADD COLUMN email_duplicate integer NOT NULL DEFAULT 0;
ALTER TABLE emails ADD COLUMN to_email_key text COLLATE "C";

-- New rows have it. Those that are there get it in batches.
ALTER TABLE leads ADD CONSTRAINT leads_email_key_check CHECK (email_key IS NOT NULL) NOT VALID;
ALTER TABLE customers ADD CONSTRAINT customers_email_key_check CHECK (email_key IS NOT NULL) NOT VALID;
ALTER TABLE users ADD CONSTRAINT users_email_key_check CHECK (email_key IS NOT NULL) NOT VALID;
ALTER TABLE suppressions ADD CONSTRAINT suppressions_email_key_check CHECK (email_key IS NOT NULL) NOT VALID;
ALTER TABLE emails ADD CONSTRAINT emails_to_email_key_check CHECK (to_email_key IS NOT NULL) NOT VALID;

DROP INDEX leads_email_key;
CREATE UNIQUE INDEX leads_email_key ON leads (workspace_id, email_key, email_duplicate);
DROP INDEX customers_email_key;
CREATE UNIQUE INDEX customers_email_key ON customers (workspace_id, email_key, email_duplicate);
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_email_key ON users (workspace_id, email_key, email_duplicate);
DROP INDEX suppressions_email_key;
CREATE UNIQUE INDEX suppressions_email_key ON suppressions (workspace_id, email_key, email_duplicate);
DROP INDEX emails_to_email_idx;
CREATE INDEX emails_to_email_idx ON emails (workspace_id, to_email_key);

-- Leads and customers are visited for their search words anyway. `history` has the rows that can be
-- restored, and `followups` the recipients of runs that are under way.
INSERT INTO backfills (workspace_id, name)
SELECT workspaces.id, tables.name
FROM workspaces, unnest(ARRAY['leads', 'customers', 'users', 'suppressions', 'emails', 'history', 'followups']) AS tables (name)
ON CONFLICT DO NOTHING;
