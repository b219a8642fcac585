-- What a workspace has set otherwise than the program's defaults, field by field. No row: nothing.
CREATE TABLE settings (
    workspace_id uuid        NOT NULL,
    fields       jsonb       NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT settings_pkey PRIMARY KEY (workspace_id),
    CONSTRAINT settings_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id)
);
