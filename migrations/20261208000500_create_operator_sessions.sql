-- Sessions of operators in the console of the admin port. A session ends with its operator's key, at `expires_at`, or
-- an hour after its last use.
CREATE TABLE operator_sessions (
    id          uuid        NOT NULL,
    operator_id uuid        NOT NULL,
    -- Of the token in the browser's cookie.
    token_hash  bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    -- Accurate to a minute.
    used_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    CONSTRAINT operator_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT operator_sessions_token_hash_key UNIQUE (token_hash),
    CONSTRAINT operator_sessions_token_hash_check CHECK (octet_length(token_hash) = 32)
);
