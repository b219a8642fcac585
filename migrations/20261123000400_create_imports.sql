-- Uploaded files on their way into the database.
CREATE TABLE imports (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- Set in the transaction that accepts the upload; until then nobody works on it, and an upload
    -- that broke off is swept.
    job_id       uuid,
    -- How the file is read: options, format, and what becomes of each column.
    plan         jsonb       NOT NULL,
    -- What the steps so far did.
    counts       jsonb       NOT NULL DEFAULT '{}',
    touched_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT imports_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT imports_id_key UNIQUE (id),
    CONSTRAINT imports_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE INDEX imports_job_id_idx ON imports (job_id);
CREATE INDEX imports_abandoned_idx ON imports (touched_at) WHERE job_id IS NULL;

-- Whole records of the file, about 1 MiB in each chunk, dropped as they are brought in.
CREATE TABLE import_chunks (
    import_id  uuid   NOT NULL,
    seq        bigint NOT NULL,
    -- The line of the file on which the chunk begins; the header is line 1.
    first_line bigint NOT NULL,
    -- Why the chunk is no records but a single one that cannot be read; its data is that line.
    refusal    text,
    data       bytea  NOT NULL,
    CONSTRAINT import_chunks_pkey PRIMARY KEY (import_id, seq),
    CONSTRAINT import_chunks_import_id_fkey FOREIGN KEY (import_id) REFERENCES imports (id) ON DELETE CASCADE
);
-- Read once and dropped: compressing it would cost more than it saves.
ALTER TABLE import_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- What a dry run has met so far, since it writes no records in which conflicts within the file would
-- be found. Dropped when the import ends.
CREATE TABLE import_seen (
    import_id uuid NOT NULL,
    email_key text NOT NULL,
    record_id uuid NOT NULL,
    CONSTRAINT import_seen_pkey PRIMARY KEY (import_id, email_key),
    CONSTRAINT import_seen_import_id_fkey FOREIGN KEY (import_id) REFERENCES imports (id) ON DELETE CASCADE
);
CREATE INDEX import_seen_record_id_idx ON import_seen (import_id, record_id);

-- The rows that a job refused, as they were in the file.
CREATE TABLE job_errors (
    job_id  uuid   NOT NULL,
    line    bigint NOT NULL,
    field   text   NOT NULL,
    code    text   NOT NULL,
    message text   NOT NULL,
    cells   jsonb  NOT NULL,
    CONSTRAINT job_errors_pkey PRIMARY KEY (job_id, line),
    CONSTRAINT job_errors_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
