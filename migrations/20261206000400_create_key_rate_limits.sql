-- The requests that each API key has left, from which the processes of crm-api take leases. A key without a row
-- has all of them.
CREATE TABLE key_rate_limits (
    key_id     uuid             NOT NULL,
    -- The requests that were left at `filled_at`. Leased ones have been taken from them; a debt is negative.
    tokens     double precision NOT NULL,
    -- How they are replenished, and up to which number.
    per_second double precision NOT NULL,
    burst      double precision NOT NULL,
    filled_at  timestamptz      NOT NULL,
    -- What the last lease got, which is less than it asked for if fewer were left.
    granted    double precision NOT NULL,
    CONSTRAINT key_rate_limits_pkey PRIMARY KEY (key_id)
) WITH (fillfactor = 50);
