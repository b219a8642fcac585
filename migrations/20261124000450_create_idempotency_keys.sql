-- Answers that are given again when a request is sent again with its Idempotency-Key. Each row is
-- written in the transaction of what the request did.
CREATE TABLE idempotency_keys (
    -- SHA-256 over the API key's id, the route and the Idempotency-Key.
    hash        bytea       NOT NULL,
    -- SHA-256 over the request: the same key with another one is a mistake of the caller's.
    fingerprint bytea       NOT NULL,
    status      smallint    NOT NULL,
    headers     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (hash)
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
