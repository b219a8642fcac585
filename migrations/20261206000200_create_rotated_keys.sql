-- The keys that a rotation replaced. They work until `valid_until`, if the key is neither revoked nor expired.
CREATE TABLE rotated_keys (
    hash        bytea       NOT NULL,
    key_id      uuid        NOT NULL,
    valid_until timestamptz NOT NULL,
    CONSTRAINT rotated_keys_pkey PRIMARY KEY (hash),
    CONSTRAINT rotated_keys_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT rotated_keys_key_id_fkey FOREIGN KEY (key_id) REFERENCES api_keys (id)
);

CREATE INDEX rotated_keys_key_id_idx ON rotated_keys (key_id);
