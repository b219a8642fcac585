-- What changes a customer's figures is noted row by row, and scores are counted by the statements that write
-- them: no trigger reads a transition table, which a distributed table has not. Every table has a key, and
-- none is unlogged.

DROP TRIGGER orders_inserted ON orders;
DROP TRIGGER orders_updated ON orders;
DROP TRIGGER orders_deleted ON orders;
DROP TRIGGER customer_interactions_inserted ON customer_interactions;
DROP TRIGGER customer_interactions_updated ON customer_interactions;
DROP TRIGGER customer_interactions_deleted ON customer_interactions;
DROP TRIGGER feedback_inserted ON feedback;
DROP TRIGGER feedback_updated ON feedback;
DROP TRIGGER feedback_deleted ON feedback;
DROP FUNCTION mark_customers();

-- The customers whose scores are stale. Rows are only added, so that no writer waits for another. Whoever scores a
-- customer deletes its rows first, and what is committed after that adds one again.
ALTER TABLE customer_marks RENAME TO stale_customers;
DROP INDEX customer_marks_customer_id_idx;
ALTER TABLE stale_customers ADD COLUMN change_id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE stale_customers ADD CONSTRAINT stale_customers_pkey PRIMARY KEY (workspace_id, customer_id, change_id);

CREATE FUNCTION note_stale_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO stale_customers (workspace_id, customer_id) VALUES (NEW.workspace_id, NEW.customer_id);
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.customer_id <> NEW.customer_id) THEN
        INSERT INTO stale_customers (workspace_id, customer_id) VALUES (OLD.workspace_id, OLD.customer_id);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER orders_changed AFTER INSERT OR UPDATE OR DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION note_stale_customer();
CREATE TRIGGER customer_interactions_changed AFTER INSERT OR UPDATE OR DELETE ON customer_interactions
    FOR EACH ROW EXECUTE FUNCTION note_stale_customer();
CREATE TRIGGER feedback_changed_customer AFTER INSERT OR UPDATE OR DELETE ON feedback
    FOR EACH ROW EXECUTE FUNCTION note_stale_customer();

DROP TRIGGER customer_scores_inserted ON customer_scores;
DROP TRIGGER customer_scores_updated ON customer_scores;
DROP TRIGGER customer_scores_deleted ON customer_scores;
DROP FUNCTION count_scores();

-- Scores go with their customer, in whatever statement deletes it.
CREATE FUNCTION count_deleted_score() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO score_counts (workspace_id, segment, band, customers, health)
    VALUES (OLD.workspace_id, OLD.segment, OLD.band, -1, -coalesce(OLD.health, 0));
    RETURN NULL;
END
$$;
CREATE TRIGGER customer_scores_deleted AFTER DELETE ON customer_scores
    FOR EACH ROW EXECUTE FUNCTION count_deleted_score();

DROP INDEX score_counts_workspace_id_idx;
ALTER TABLE score_counts ADD COLUMN change_id uuid NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE score_counts ADD CONSTRAINT score_counts_pkey PRIMARY KEY (workspace_id, change_id);

ALTER TABLE reports SET LOGGED;
