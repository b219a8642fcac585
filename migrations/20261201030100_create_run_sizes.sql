-- The largest run of each kind and day, by the emails that it wrote: what the brake compares a run with. Kept
-- for 30 days, however long jobs are kept.
CREATE TABLE run_sizes (
    workspace_id uuid   NOT NULL,
    kind         text   NOT NULL,
    date         date   NOT NULL,
    emails       bigint NOT NULL,
    CONSTRAINT run_sizes_pkey PRIMARY KEY (workspace_id, kind, date)
);
