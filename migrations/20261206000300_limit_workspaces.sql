-- The rate limit of a workspace's keys, if an operator has set one: requests per minute (0 is no limit), and how
-- many of them may be sent at once.
SET LOCAL lock_timeout = '5s';
ALTER TABLE workspaces ADD COLUMN rate_limit_per_minute integer;
ALTER TABLE workspaces ADD COLUMN rate_limit_burst integer;
