-- The worker that holds a lease, or that held the last one.
SET LOCAL lock_timeout = '5s';
ALTER TABLE jobs ADD COLUMN worker_id uuid;
ALTER TABLE emails ADD COLUMN worker_id uuid;
ALTER TABLE webhook_queues ADD COLUMN worker_id uuid;
