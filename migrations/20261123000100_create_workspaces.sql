-- A workspace owns every row of the product's data; an API key opens one workspace.
CREATE TABLE workspaces (
    id         uuid        NOT NULL,
    name       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workspaces_pkey PRIMARY KEY (id),
    CONSTRAINT workspaces_name_key UNIQUE (name)
);

CREATE TABLE api_keys (
    id           uuid        NOT NULL,
    workspace_id uuid        NOT NULL,
    name         text        NOT NULL,
    -- SHA-256 of the whole key. The key itself is shown once and kept nowhere.
    hash         bytea       NOT NULL,
    -- The key's first characters, by which people recognise it.
    prefix       text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_hash_key UNIQUE (hash),
    CONSTRAINT api_keys_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT api_keys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces (id)
);

CREATE INDEX api_keys_workspace_id_idx ON api_keys (workspace_id, id);

-- Random values that all processes share, each made on first use: one row for each purpose.
CREATE TABLE secrets (
    name  text  NOT NULL,
    value bytea NOT NULL,
    CONSTRAINT secrets_pkey PRIMARY KEY (name)
);
