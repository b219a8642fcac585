-- Sessions of people who signed in to the console with an API key. A session ends with its key, at `expires_at`, or
-- an hour after its last use.
CREATE TABLE sessions (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- The key that it was begun with. Keys are never deleted.
    key_id       uuid        NOT NULL,
    -- Of the token in the browser's cookie.
    token_hash   bytea       NOT NULL,
    -- What the key could do when the session began; with other scopes the session has ended.
    scopes       text[]      NOT NULL,
    address      text,
    user_agent   text,
    created_at   timestamptz NOT NULL,
    -- Accurate to a minute.
    used_at      timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT sessions_token_hash_key UNIQUE (workspace_id, token_hash),
    CONSTRAINT sessions_token_hash_check CHECK (octet_length(token_hash) = 32)
);

CREATE INDEX sessions_key_id_idx ON sessions (workspace_id, key_id);

-- Links that sign in once.
CREATE TABLE sign_in_links (
    workspace_id uuid        NOT NULL,
    token_hash   bytea       NOT NULL,
    key_id       uuid        NOT NULL,
    expires_at   timestamptz NOT NULL,
    CONSTRAINT sign_in_links_pkey PRIMARY KEY (workspace_id, token_hash),
    CONSTRAINT sign_in_links_token_hash_check CHECK (octet_length(token_hash) = 32)
);
