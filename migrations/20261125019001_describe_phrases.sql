-- How the phrases of a reading are kept; there are some ten of them for each comment.
COMMENT ON COLUMN feedback_readings.phrases IS
    'Each phrase as [key, form or null if that is the key, 1 if a noun + 2 if a name, mood or null]';
