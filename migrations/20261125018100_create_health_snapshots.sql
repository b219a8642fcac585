-- The scores of each customer as they were day by day. They outlive the customer while it can be
-- restored, so they do not refer to it; old ones are deleted.
CREATE TABLE health_snapshots (
    workspace_id uuid     NOT NULL,
    customer_id  uuid     NOT NULL,
    date         date     NOT NULL,
    health       smallint,
    band         text,
    segment      text     NOT NULL,
    CONSTRAINT health_snapshots_pkey PRIMARY KEY (workspace_id, customer_id, date)
);
-- By day, for what is too old.
CREATE INDEX health_snapshots_date_idx ON health_snapshots USING brin (date);

-- How many customers were in each segment, day by day.
CREATE TABLE segment_snapshots (
    workspace_id uuid   NOT NULL,
    date         date   NOT NULL,
    segment      text   NOT NULL,
    customers    bigint NOT NULL,
    CONSTRAINT segment_snapshots_pkey PRIMARY KEY (workspace_id, date, segment)
);
