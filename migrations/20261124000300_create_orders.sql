-- What customers ordered.
CREATE TABLE orders (
    workspace_id     uuid        NOT NULL,
    id               uuid        NOT NULL,
    customer_id      uuid        NOT NULL,
    product_id       uuid        NOT NULL,
    quantity         bigint      NOT NULL,
    status           text        NOT NULL,
    order_date       timestamptz NOT NULL,
    shipping_address text,
    billing_address  text,
    notes            text,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT orders_status_check CHECK (status IN ('pending', 'processing', 'shipped', 'delivered', 'cancelled')),
    CONSTRAINT orders_quantity_check CHECK (quantity >= 1),
    CONSTRAINT orders_customer_id_fkey FOREIGN KEY (workspace_id, customer_id) REFERENCES customers (workspace_id, id)
);
CREATE INDEX orders_status_idx ON orders (workspace_id, status, created_at, id);
CREATE INDEX orders_customer_id_idx ON orders (workspace_id, customer_id, order_date, id);
CREATE INDEX orders_order_date_idx ON orders (workspace_id, order_date, id);
