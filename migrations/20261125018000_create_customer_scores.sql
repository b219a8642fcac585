-- What is known of each customer in figures: what they bought in the last 24 months, the segment that
-- follows from it, and their health. Made from orders, interactions and feedback, and made again for
-- whom one of these changes. No row: nothing is known of the customer yet.
CREATE TABLE customer_scores (
    workspace_id     uuid        NOT NULL,
    customer_id      uuid        NOT NULL,
    -- The customer's own, by which lists are ordered.
    created_at       timestamptz NOT NULL,
    -- Of the last 24 months, without cancelled orders.
    last_order_at    timestamptz,
    orders           bigint      NOT NULL,
    quantity         bigint      NOT NULL,
    -- From 1 to 5 each; none without orders.
    recency          smallint,
    frequency        smallint,
    monetary         smallint,
    segment          text        NOT NULL,
    -- The segment in the last snapshot.
    former_segment   text,
    health           smallint,
    band             text,
    -- The day as of which this is.
    date             date        NOT NULL,
    CONSTRAINT customer_scores_pkey PRIMARY KEY (workspace_id, customer_id),
    CONSTRAINT customer_scores_customer_id_fkey FOREIGN KEY (workspace_id, customer_id)
        REFERENCES customers (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT customer_scores_recency_check CHECK (recency BETWEEN 1 AND 5),
    CONSTRAINT customer_scores_frequency_check CHECK (frequency BETWEEN 1 AND 5),
    CONSTRAINT customer_scores_monetary_check CHECK (monetary BETWEEN 1 AND 5),
    CONSTRAINT customer_scores_segment_check CHECK (segment IN ('champions', 'loyal', 'active', 'new', 'promising',
        'needs_attention', 'at_risk', 'previously_loyal', 'almost_lost', 'dormant', 'prospects')),
    CONSTRAINT customer_scores_health_check CHECK (health BETWEEN 0 AND 100),
    CONSTRAINT customer_scores_band_check CHECK (band IN ('healthy', 'watch', 'at_risk'))
)
WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- The customers of a segment, or of a band, newest first.
CREATE INDEX customer_scores_segment_idx ON customer_scores (workspace_id, segment, created_at, customer_id);
CREATE INDEX customer_scores_band_idx ON customer_scores (workspace_id, band, created_at, customer_id);
-- Who changed the segment since the last snapshot: few.
CREATE INDEX customer_scores_moved_idx ON customer_scores (workspace_id, former_segment, segment)
    WHERE former_segment IS DISTINCT FROM segment;

-- How far the scores of a workspace are.
CREATE TABLE score_states (
    workspace_id    uuid        NOT NULL,
    -- The day as of which all customers were last scored.
    date            date,
    -- Up to when all changes are in.
    refreshed_at    timestamptz,
    -- How many customers have orders, and the values from which on these score 2, 3, 4 and 5.
    buyers          bigint      NOT NULL,
    recency_cuts    timestamptz[] NOT NULL,
    frequency_cuts  bigint[]    NOT NULL,
    monetary_cuts   bigint[]    NOT NULL,
    cut_at          timestamptz NOT NULL,
    -- Whether orders changed since the cuts were made.
    moved           boolean     NOT NULL,
    -- The customer up to whom segments follow the present cuts; NULL: all do.
    cut_after       uuid,
    -- When the last snapshot was complete, and of which day it is.
    snapshot_at     timestamptz,
    snapshot_date   date,
    CONSTRAINT score_states_pkey PRIMARY KEY (workspace_id)
);
CREATE INDEX score_states_moved_idx ON score_states (workspace_id) WHERE moved OR cut_after IS NOT NULL;

-- The customers of whom something changed, as often as it did: rows are only added, so that no writer
-- waits for another. Whoever scores a customer first takes its marks away, and what is committed after
-- that leaves a mark again.
CREATE TABLE customer_marks (
    workspace_id uuid NOT NULL,
    customer_id  uuid NOT NULL
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX customer_marks_customer_id_idx ON customer_marks (workspace_id, customer_id);

-- One run for each statement, whatever writes: the program, an import, or somebody at a console.
CREATE FUNCTION mark_customers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO customer_marks SELECT DISTINCT workspace_id, customer_id FROM after_rows;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO customer_marks SELECT DISTINCT workspace_id, customer_id FROM before_rows;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER orders_inserted AFTER INSERT ON orders
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER orders_updated AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER orders_deleted AFTER DELETE ON orders
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();

CREATE TRIGGER customer_interactions_inserted AFTER INSERT ON customer_interactions
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER customer_interactions_updated AFTER UPDATE ON customer_interactions
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER customer_interactions_deleted AFTER DELETE ON customer_interactions
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();

CREATE TRIGGER feedback_inserted AFTER INSERT ON feedback
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER feedback_updated AFTER UPDATE ON feedback
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
CREATE TRIGGER feedback_deleted AFTER DELETE ON feedback
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION mark_customers();
