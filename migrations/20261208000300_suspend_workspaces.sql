-- Since when the keys of a workspace are refused and its work waits.
SET LOCAL lock_timeout = '5s';
ALTER TABLE workspaces ADD COLUMN suspended_at timestamptz;
