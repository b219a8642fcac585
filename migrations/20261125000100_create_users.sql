-- The people of a workspace: who `assigned_to` is, and where their digests go. A record may name a user
-- that is not here: then it is somebody of another system.
CREATE TABLE users (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    name         text        NOT NULL,
    email        text        NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX users_email_key ON users (workspace_id, lower(email COLLATE "C"));
CREATE INDEX users_created_at_idx ON users (workspace_id, created_at, id);
