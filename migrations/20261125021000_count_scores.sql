-- How many customers with scores there are of each segment and band, and the sum of their health: the rows
-- of a workspace, added up. Each statement that changes scores adds what it changes, so that no writer
-- waits for another; who scores customers puts the rows together when they are many.
CREATE TABLE score_counts (
    workspace_id uuid   NOT NULL,
    segment      text   NOT NULL,
    -- NULL: nothing is known of them.
    band         text,
    customers    bigint NOT NULL,
    health       bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX score_counts_workspace_id_idx ON score_counts (workspace_id);

CREATE FUNCTION count_scores() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO score_counts
        SELECT workspace_id, segment, band, count(*), coalesce(sum(health), 0) FROM after_rows
        GROUP BY workspace_id, segment, band;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO score_counts
        SELECT workspace_id, segment, band, -count(*), -coalesce(sum(health), 0) FROM before_rows
        GROUP BY workspace_id, segment, band;
    ELSE
        INSERT INTO score_counts
        SELECT workspace_id, segment, band, sum(customers), sum(health)
        FROM (
            SELECT workspace_id, segment, band, 1 AS customers, coalesce(health, 0) AS health FROM after_rows
            UNION ALL
            SELECT workspace_id, segment, band, -1, -coalesce(health, 0) FROM before_rows
        ) AS changed
        GROUP BY workspace_id, segment, band HAVING sum(customers) <> 0 OR sum(health) <> 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER customer_scores_inserted AFTER INSERT ON customer_scores
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION count_scores();
CREATE TRIGGER customer_scores_updated AFTER UPDATE ON customer_scores
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION count_scores();
CREATE TRIGGER customer_scores_deleted AFTER DELETE ON customer_scores
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION count_scores();

INSERT INTO score_counts
SELECT workspace_id, segment, band, count(*), coalesce(sum(health), 0) FROM customer_scores
GROUP BY workspace_id, segment, band;

-- How many customers were in each band, day by day, and the sum of their health.
CREATE TABLE band_snapshots (
    workspace_id uuid   NOT NULL,
    date         date   NOT NULL,
    -- 'unknown': nothing was known of them.
    band         text   NOT NULL,
    customers    bigint NOT NULL,
    health       bigint NOT NULL,
    CONSTRAINT band_snapshots_pkey PRIMARY KEY (workspace_id, date, band)
);

-- Of the days whose snapshot is complete.
INSERT INTO band_snapshots
SELECT workspace_id, date, coalesce(band, 'unknown'), count(*), coalesce(sum(health), 0) FROM health_snapshots
WHERE (workspace_id, date) IN (SELECT workspace_id, date FROM segment_snapshots)
GROUP BY workspace_id, date, coalesce(band, 'unknown');
