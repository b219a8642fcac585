-- The mappings that callers save for the next file with the same headers, and the addresses that a dry run would
-- have suppressed.

CREATE TABLE import_mappings (
    workspace_id uuid        NOT NULL,
    record_type  text        NOT NULL,
    -- A hash of the headers, in their order.
    fingerprint  text        NOT NULL,
    mapping      jsonb       NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT import_mappings_pkey PRIMARY KEY (workspace_id, record_type, fingerprint)
);

CREATE TABLE import_seen_suppressions (
    workspace_id uuid NOT NULL,
    import_id    uuid NOT NULL,
    email_key    text NOT NULL,
    CONSTRAINT import_seen_suppressions_pkey PRIMARY KEY (workspace_id, import_id, email_key),
    CONSTRAINT import_seen_suppressions_import_id_fkey FOREIGN KEY (workspace_id, import_id)
        REFERENCES imports (workspace_id, id) ON DELETE CASCADE
);
