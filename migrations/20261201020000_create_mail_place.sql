-- Where the database is, which distinguishes an original from its copies, and whether email is on hold: one row.
CREATE TABLE mail_place (
    is_only           boolean     NOT NULL DEFAULT true,
    -- The system identifier of the server and the oid of the database, or NULL until a worker has run.
    system_identifier bigint,
    database_oid      bigint,
    -- The public_url of its workers, or NULL while none has one.
    public_url        text,
    -- Since when email is on hold by an operator, or by a release that has begun and not ended.
    held_since        timestamptz,
    -- That release, if it sets aside what another database may have sent, and since when that may be.
    release_id        uuid,
    lost_since        timestamptz,
    CONSTRAINT mail_place_pkey PRIMARY KEY (is_only),
    CONSTRAINT mail_place_only_check CHECK (is_only)
);

INSERT INTO mail_place DEFAULT VALUES;

-- A database that has sent email is in its place now.
UPDATE mail_place SET system_identifier = control.system_identifier, database_oid = present.oid
FROM pg_control_system() AS control, pg_database AS present
WHERE present.datname = current_database() AND EXISTS (SELECT FROM emails);
