-- Where a job goes on, apart from its result, which callers see.
ALTER TABLE jobs ADD COLUMN cursor jsonb;

-- 0.1.0 kept it in the result. Jobs that have not succeeded resume where they were: after the page before, or at
-- the end when only their outcome was not written yet.
UPDATE jobs
SET cursor = CASE
    WHEN (result ->> 'done')::boolean OR result ->> 'phase' = 'done' OR kind = 'request_feedback' THEN '"end"'
    WHEN kind = 'nurture_leads' THEN jsonb_build_object('page', result -> 'after')
    WHEN kind = 'process_followups' THEN jsonb_build_object('page', result -> 'walk')
    WHEN kind = 'remind_feedback' THEN
        jsonb_build_object('page', jsonb_build_object('began_at', result -> 'began_at', 'after', result -> 'after'))
    WHEN kind = 'undo_import' AND result ->> 'before_entry' IS NOT NULL THEN
        jsonb_build_object('page', jsonb_build_object('history', result -> 'before_entry'))
    WHEN kind = 'undo_import' THEN jsonb_build_object('page', jsonb_build_object('records', result -> 'after_record'))
    WHEN kind = 'snapshot_health' THEN jsonb_build_object('page', jsonb_build_object(result ->> 'phase', result -> 'after'))
    WHEN kind = 'clean_up' THEN '{"page": null}'
    WHEN kind = 'find_themes' THEN coalesce((result -> 'stage')::jsonb, '"read"')
END
WHERE status <> 'succeeded' AND result IS NOT NULL
    AND kind IN ('nurture_leads', 'process_followups', 'request_feedback', 'remind_feedback', 'undo_import',
        'snapshot_health', 'clean_up', 'find_themes');

-- A result without it, its other fields in their order.
CREATE FUNCTION pg_temp.public(result json) RETURNS json LANGUAGE sql AS $$
    SELECT json_object_agg(name, value ORDER BY place)
    FROM json_each(result) WITH ORDINALITY AS field (name, value, place)
    WHERE name NOT IN ('after', 'began_at', 'walk', 'after_record', 'before_entry', 'total', 'phase', 'stage', 'done')
$$;
UPDATE jobs SET result = pg_temp.public(result) WHERE cursor IS NOT NULL;

-- A night lists the results of its runs.
CREATE FUNCTION pg_temp.public_run(run json) RETURNS json LANGUAGE sql AS $$
    SELECT json_object_agg(
        name, CASE WHEN name = 'result' AND json_typeof(value) = 'object' THEN pg_temp.public(value) ELSE value END
        ORDER BY place)
    FROM json_each(run) WITH ORDINALITY AS field (name, value, place)
$$;
UPDATE jobs
SET result = (
    SELECT json_object_agg(name, CASE name WHEN 'runs' THEN runs.public ELSE value END ORDER BY place)
    FROM json_each(result) WITH ORDINALITY AS field (name, value, place)
    CROSS JOIN (
        SELECT coalesce(json_agg(pg_temp.public_run(run) ORDER BY place), '[]') AS public
        FROM json_array_elements(result -> 'runs') WITH ORDINALITY AS listed (run, place)
    ) AS runs
)
WHERE kind = 'nightly' AND status <> 'succeeded' AND result IS NOT NULL;
