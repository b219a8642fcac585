SET LOCAL lock_timeout = '5s';

-- Files that wait to be imported, for a day.
CREATE TABLE uploads (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- Whether callers see the upload: set in the transaction of the request that creates it. One that broke off is
    -- swept.
    is_listed    boolean     NOT NULL DEFAULT false,
    -- How many bytes have arrived, and how many the file has, if the caller said so.
    size         bigint      NOT NULL DEFAULT 0,
    length       bigint,
    touched_at   timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uploads_pkey PRIMARY KEY (workspace_id, id)
);
CREATE INDEX uploads_created_at_idx ON uploads (created_at);

-- The bytes of these files, up to 1 MiB in each row, by the position of the first one.
CREATE TABLE upload_chunks (
    workspace_id uuid   NOT NULL,
    upload_id    uuid   NOT NULL,
    start        bigint NOT NULL,
    data         bytea  NOT NULL,
    CONSTRAINT upload_chunks_pkey PRIMARY KEY (workspace_id, upload_id, start),
    CONSTRAINT upload_chunks_upload_id_fkey FOREIGN KEY (workspace_id, upload_id)
        REFERENCES uploads (workspace_id, id) ON DELETE CASCADE
);
-- Files are usually compressed already.
ALTER TABLE upload_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- The stored upload that an import reads, which is not replaced meanwhile.
ALTER TABLE imports ADD COLUMN upload_id uuid;
CREATE INDEX imports_upload_id_idx ON imports (workspace_id, upload_id) WHERE upload_id IS NOT NULL;
