-- Every table of a workspace's data is keyed by its workspace, so that all of it can be distributed
-- by workspace. Each ALTER TABLE adds at most one constraint.

ALTER TABLE imports DROP CONSTRAINT imports_job_id_fkey;
ALTER TABLE import_chunks DROP CONSTRAINT import_chunks_import_id_fkey;
ALTER TABLE import_seen DROP CONSTRAINT import_seen_import_id_fkey;
ALTER TABLE job_errors DROP CONSTRAINT job_errors_job_id_fkey;
ALTER TABLE followups DROP CONSTRAINT followups_job_id_fkey;

-- The list of a workspace's jobs is read by the primary key.
DROP INDEX jobs_list_idx;
ALTER TABLE jobs DROP CONSTRAINT jobs_pkey;
ALTER TABLE jobs ADD CONSTRAINT jobs_pkey PRIMARY KEY (workspace_id, id);

ALTER TABLE emails DROP CONSTRAINT emails_pkey;
ALTER TABLE emails ADD CONSTRAINT emails_pkey PRIMARY KEY (workspace_id, id);

ALTER TABLE imports DROP CONSTRAINT imports_id_key;
DROP INDEX imports_job_id_idx;
CREATE INDEX imports_job_id_idx ON imports (workspace_id, job_id);
ALTER TABLE imports ADD CONSTRAINT imports_job_id_fkey
    FOREIGN KEY (workspace_id, job_id) REFERENCES jobs (workspace_id, id) ON DELETE CASCADE;

ALTER TABLE import_chunks ADD COLUMN workspace_id uuid;
UPDATE import_chunks SET workspace_id = imports.workspace_id FROM imports WHERE imports.id = import_id;
ALTER TABLE import_chunks ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE import_chunks DROP CONSTRAINT import_chunks_pkey;
ALTER TABLE import_chunks ADD CONSTRAINT import_chunks_pkey PRIMARY KEY (workspace_id, import_id, seq);
ALTER TABLE import_chunks ADD CONSTRAINT import_chunks_import_id_fkey
    FOREIGN KEY (workspace_id, import_id) REFERENCES imports (workspace_id, id) ON DELETE CASCADE;

ALTER TABLE import_seen ADD COLUMN workspace_id uuid;
UPDATE import_seen SET workspace_id = imports.workspace_id FROM imports WHERE imports.id = import_id;
ALTER TABLE import_seen ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE import_seen DROP CONSTRAINT import_seen_pkey;
ALTER TABLE import_seen ADD CONSTRAINT import_seen_pkey PRIMARY KEY (workspace_id, import_id, email_key);
ALTER TABLE import_seen ADD CONSTRAINT import_seen_import_id_fkey
    FOREIGN KEY (workspace_id, import_id) REFERENCES imports (workspace_id, id) ON DELETE CASCADE;
DROP INDEX import_seen_record_id_idx;
CREATE INDEX import_seen_record_id_idx ON import_seen (workspace_id, import_id, record_id);

ALTER TABLE job_errors ADD COLUMN workspace_id uuid;
UPDATE job_errors SET workspace_id = jobs.workspace_id FROM jobs WHERE jobs.id = job_id;
ALTER TABLE job_errors ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE job_errors DROP CONSTRAINT job_errors_pkey;
ALTER TABLE job_errors ADD CONSTRAINT job_errors_pkey PRIMARY KEY (workspace_id, job_id, line);
ALTER TABLE job_errors ADD CONSTRAINT job_errors_job_id_fkey
    FOREIGN KEY (workspace_id, job_id) REFERENCES jobs (workspace_id, id) ON DELETE CASCADE;

ALTER TABLE followups ADD COLUMN workspace_id uuid;
UPDATE followups SET workspace_id = jobs.workspace_id FROM jobs WHERE jobs.id = job_id;
ALTER TABLE followups ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE followups DROP CONSTRAINT followups_pkey;
ALTER TABLE followups ADD CONSTRAINT followups_pkey
    PRIMARY KEY (workspace_id, job_id, recipient, next_action_date, interaction_id);
ALTER TABLE followups ADD CONSTRAINT followups_job_id_fkey
    FOREIGN KEY (workspace_id, job_id) REFERENCES jobs (workspace_id, id) ON DELETE CASCADE;

-- A stored answer does not know its workspace, and its key is a hash. Those that are there get the nil id, under
-- which they are still found, and are pruned within a day.
ALTER TABLE idempotency_keys ADD COLUMN workspace_id uuid;
UPDATE idempotency_keys SET workspace_id = '00000000-0000-0000-0000-000000000000';
ALTER TABLE idempotency_keys ALTER COLUMN workspace_id SET NOT NULL;
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_pkey;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (workspace_id, hash);
