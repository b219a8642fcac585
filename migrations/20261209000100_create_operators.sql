-- Who may use the operator API, each with a key, of which only the hash is stored.
CREATE TABLE operators (
    id           uuid        NOT NULL,
    name         text        NOT NULL,
    prefix       text        NOT NULL,
    hash         bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CONSTRAINT operators_pkey PRIMARY KEY (id),
    CONSTRAINT operators_hash_key UNIQUE (hash),
    CONSTRAINT operators_hash_check CHECK (octet_length(hash) = 32)
);
-- A name can be used again once its operator is revoked.
CREATE UNIQUE INDEX operators_name_key ON operators (name) WHERE revoked_at IS NULL;
