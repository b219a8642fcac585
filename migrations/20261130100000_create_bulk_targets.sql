-- The records that a bulk change has still to process: the ids that matched its filter when it was accepted, in
-- chunks, each of which is deleted in the transaction that processes it.
CREATE TABLE bulk_targets (
    workspace_id uuid   NOT NULL,
    job_id       uuid   NOT NULL,
    seq          bigint NOT NULL,
    -- In their order, so that concurrent bulk changes lock records in the same order.
    ids          uuid[] NOT NULL,
    CONSTRAINT bulk_targets_pkey PRIMARY KEY (workspace_id, job_id, seq),
    CONSTRAINT bulk_targets_job_id_fkey FOREIGN KEY (workspace_id, job_id)
        REFERENCES jobs (workspace_id, id) ON DELETE CASCADE
);
-- Read once and deleted: compressing it would cost more than it saves.
ALTER TABLE bulk_targets ALTER COLUMN ids SET STORAGE EXTERNAL;
