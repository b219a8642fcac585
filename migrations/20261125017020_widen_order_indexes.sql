-- Reports walk along the orders of each customer, or of a time, and need no more of an order than this.
DROP INDEX orders_customer_id_idx;
CREATE INDEX orders_customer_id_idx ON orders (workspace_id, customer_id, order_date, id) INCLUDE (status, quantity);
DROP INDEX orders_order_date_idx;
CREATE INDEX orders_order_date_idx ON orders (workspace_id, order_date, id) INCLUDE (status, quantity, customer_id);
