-- What customers talk about in their answers, found in their comments.

-- Answers that are new, changed or gone, and that a worker has not looked at since. Whatever writes
-- to `feedback` leaves a note here, in its own transaction, so none is missed.
CREATE TABLE feedback_unread (
    workspace_id uuid        NOT NULL,
    feedback_id  uuid        NOT NULL,
    noted_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT feedback_unread_pkey PRIMARY KEY (workspace_id, feedback_id)
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE FUNCTION note_unread_feedback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The update locks a note that stands already: whoever takes it away waits for this transaction,
    -- and then reads what it wrote.
    INSERT INTO feedback_unread (workspace_id, feedback_id)
    VALUES (coalesce(NEW.workspace_id, OLD.workspace_id), coalesce(NEW.id, OLD.id))
    ON CONFLICT ON CONSTRAINT feedback_unread_pkey DO UPDATE SET noted_at = excluded.noted_at;
    RETURN NULL;
END
$$;

CREATE TRIGGER feedback_made AFTER INSERT ON feedback
    FOR EACH ROW WHEN (NEW.answered_at IS NOT NULL) EXECUTE FUNCTION note_unread_feedback();
CREATE TRIGGER feedback_changed AFTER UPDATE ON feedback
    FOR EACH ROW WHEN ((OLD.answered_at, OLD.rating, OLD.comment) IS DISTINCT FROM (NEW.answered_at, NEW.rating, NEW.comment))
    EXECUTE FUNCTION note_unread_feedback();
CREATE TRIGGER feedback_gone AFTER DELETE ON feedback
    FOR EACH ROW WHEN (OLD.answered_at IS NOT NULL) EXECUTE FUNCTION note_unread_feedback();

INSERT INTO feedback_unread (workspace_id, feedback_id)
SELECT workspace_id, id FROM feedback WHERE answered_at IS NOT NULL;

-- What was read in an answer. It stays when the answer goes, until the worker takes it out of the counts.
CREATE TABLE feedback_readings (
    workspace_id uuid        NOT NULL,
    feedback_id  uuid        NOT NULL,
    answered_at  timestamptz NOT NULL,
    rating       smallint    NOT NULL,
    -- Whether there is a comment, and whether it is short enough, and long enough, to be quoted.
    commented    boolean     NOT NULL,
    quotable     boolean     NOT NULL,
    language     text        NOT NULL,
    -- The version of the reader; what an older one has read is read again.
    reader       smallint    NOT NULL,
    -- The phrases of the comment: [{"key": …, "form": …, "firm": …, "name": …, "mood": …}].
    phrases      jsonb       NOT NULL,
    -- The themes that it belongs to, and how it sounds about each, in hundredths.
    themes       uuid[]      NOT NULL,
    moods        smallint[]  NOT NULL,
    CONSTRAINT feedback_readings_pkey PRIMARY KEY (workspace_id, feedback_id),
    CONSTRAINT feedback_readings_moods_check CHECK (cardinality(themes) = cardinality(moods))
);
CREATE INDEX feedback_readings_answered_at_idx ON feedback_readings (workspace_id, answered_at, feedback_id);

CREATE TABLE themes (
    workspace_id uuid        NOT NULL,
    id           uuid        NOT NULL,
    -- The stems of its phrase, and of all phrases that mean it.
    key          text        NOT NULL,
    keys         text[]      NOT NULL,
    label        text        NOT NULL,
    -- Whether it was found the last time, and whether callers see it: those that are found are listed
    -- when all answers have been looked through for them.
    found        boolean     NOT NULL,
    listed       boolean     NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT themes_pkey PRIMARY KEY (workspace_id, id)
);

-- The answers of each day of UTC, in all (under the nil id) and by theme: always the sums over
-- `feedback_readings`, moved in the transactions that change these.
CREATE TABLE theme_days (
    workspace_id uuid    NOT NULL,
    day          date    NOT NULL,
    theme_id     uuid    NOT NULL,
    answers      integer NOT NULL,
    comments     integer NOT NULL,
    -- The sum of the ratings, that of their squares, and that of the moods.
    ratings      bigint  NOT NULL,
    squares      bigint  NOT NULL,
    moods        bigint  NOT NULL,
    -- A few answers of the day that can be quoted.
    quotes       uuid[]  NOT NULL,
    CONSTRAINT theme_days_pkey PRIMARY KEY (workspace_id, day, theme_id)
)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- How far the themes of a workspace are.
CREATE TABLE theme_states (
    workspace_id uuid        NOT NULL,
    -- The language that most comments are in, for those too short to tell theirs.
    language     text,
    -- When the themes were found last, and among how many comments.
    found_at     timestamptz,
    comments     bigint      NOT NULL DEFAULT 0,
    -- Whether somebody has asked for them to be found again.
    wanted       boolean     NOT NULL DEFAULT false,
    CONSTRAINT theme_states_pkey PRIMARY KEY (workspace_id)
);
