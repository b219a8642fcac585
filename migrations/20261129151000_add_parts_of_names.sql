-- The parts of the names of leads and customers.

ALTER TABLE leads ADD COLUMN first_name text;
ALTER TABLE leads ADD COLUMN last_name text;
ALTER TABLE customers ADD COLUMN first_name text;
ALTER TABLE customers ADD COLUMN last_name text;

-- They were columns of files only. Imports that are not finished now read them into the fields.
UPDATE imports SET plan = jsonb_set(plan, '{targets}', (
    SELECT jsonb_agg(
        CASE WHEN target IN ('"first_name"', '"last_name"') THEN jsonb_build_object('field', target) ELSE target END
        ORDER BY n
    )
    FROM jsonb_array_elements(plan -> 'targets') WITH ORDINALITY AS targets (target, n)
))
WHERE plan -> 'targets' @> '["first_name"]' OR plan -> 'targets' @> '["last_name"]';
