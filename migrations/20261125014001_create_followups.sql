-- What a run of follow-ups has found to be due, by whom it is told to: a digest says how much there is,
-- so all of it is gathered before the first is written. Dropped when the run ends.
CREATE TABLE followups (
    job_id           uuid             NOT NULL,
    -- The recipient's address, in the form in which addresses are compared.
    recipient        text COLLATE "C" NOT NULL,
    next_action_date timestamptz      NOT NULL,
    interaction_id   uuid             NOT NULL,
    interaction_type text             NOT NULL,
    CONSTRAINT followups_pkey PRIMARY KEY (job_id, recipient, next_action_date, interaction_id),
    CONSTRAINT followups_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
