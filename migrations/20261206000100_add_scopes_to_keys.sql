-- What a key may do. Keys of older versions may do everything, and so may keys that an older version creates.
SET LOCAL lock_timeout = '5s';
ALTER TABLE api_keys ADD COLUMN scopes text[] NOT NULL DEFAULT '{*}';
ALTER TABLE api_keys ADD COLUMN last_used_ip text;
-- When the key was last replaced by a new one with the same id, and until when older ones work.
ALTER TABLE api_keys ADD COLUMN rotated_at timestamptz;
ALTER TABLE api_keys ADD COLUMN old_key_until timestamptz;
