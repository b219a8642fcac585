-- Runs of 0.1.0 whose worker was stopped between two pages. Of each, the records before its cursor look as if
-- nothing had been done with them, so a run that began again would do it.

-- No night begins meanwhile.
INSERT INTO slots (workspace_id, kind, date, job_id)
VALUES ('01a227cd-3b89-7672-9e07-9f617da85df2', 'nightly', current_date + 2, '01a227ce-5d72-743d-941d-75806b2009e0');

INSERT INTO leads (workspace_id, id, name, email, source, status, score, custom_fields, words, created_at, updated_at, import_job_id)
SELECT '01a227cd-3b89-7672-9e07-9f617da85df2', id::uuid, name, name || '@example.com', 'other', status, 0, '{}', '', now(), now(), import::uuid
FROM (VALUES
    ('01000000-0000-7000-8000-000000000001', 'lin', 'new', NULL),
    ('01000000-0000-7000-8000-000000000002', 'lou', 'new', NULL),
    ('01000000-0000-7000-8000-000000000003', 'una', 'lost', '01a227cd-bdd0-7249-9314-832a307dec97'),
    ('01000000-0000-7000-8000-000000000004', 'urs', 'lost', '01a227cd-bdd0-7249-9314-832a307dec97')
) AS new (id, name, status, import);

INSERT INTO lead_interactions (workspace_id, id, lead_id, type, next_action, next_action_date, created_at, updated_at)
SELECT '01a227cd-3b89-7672-9e07-9f617da85df2', id::uuid, '01000000-0000-7000-8000-000000000003', 'call', 'Call', date::timestamptz, now(), now()
FROM (VALUES
    ('02000000-0000-7000-8000-000000000001', '2026-11-01T10:00:00Z'),
    ('02000000-0000-7000-8000-000000000002', '2026-11-02T10:00:00Z'),
    ('02000000-0000-7000-8000-000000000003', '2026-11-03T10:00:00Z')
) AS new (id, date);

INSERT INTO customers (workspace_id, id, name, email, type, status, custom_fields, words, created_at, updated_at)
SELECT '01a227cd-3b89-7672-9e07-9f617da85df2', id::uuid, name, name || '@example.com', 'individual', 'active', '{}', '', now(), now()
FROM (VALUES ('03000000-0000-7000-8000-000000000001', 'cam'), ('03000000-0000-7000-8000-000000000002', 'cyd')) AS new (id, name);

INSERT INTO feedback (workspace_id, id, customer_id, status, requested_at, reminders, created_at, updated_at)
SELECT '01a227cd-3b89-7672-9e07-9f617da85df2', id::uuid, customer::uuid, 'requested', at::timestamptz, 0, at::timestamptz, at::timestamptz
FROM (VALUES
    ('04000000-0000-7000-8000-000000000001', '03000000-0000-7000-8000-000000000001', '2026-11-01T10:00:00Z'),
    ('04000000-0000-7000-8000-000000000002', '03000000-0000-7000-8000-000000000002', '2026-11-02T10:00:00Z')
) AS new (id, customer, at);

INSERT INTO emails (workspace_id, id, event, event_key, from_email, to_email, to_domain, subject, text_body, state)
SELECT workspace_id, gen_random_uuid(), 'feedback_request', 'feedback:' || id || ':request', 'hello@acme.example',
    'c@example.com', 'example.com', 's', 'b', 'sent'
FROM feedback WHERE id::text LIKE '04000000-%';

INSERT INTO jobs (workspace_id, id, queue, kind, status, attempt, payload, dedupe_key, progress_done, progress_total, result, started_at, finished_at)
SELECT '01a227cd-3b89-7672-9e07-9f617da85df2', id::uuid, queue, kind, status, 1, payload::jsonb, kind, done, NULL, result::json, now(),
    CASE WHEN status IN ('failed', 'cancelled') THEN now() END
FROM (VALUES
    ('05000000-0000-7000-8000-000000000001', 'workflows', 'nurture_leads', 'queued', '{"dry_run": false}', 1,
     '{"leads":1,"sent":1,"waiting":0,"skipped":{"suppressed":0,"bounced":0,"interaction":0,"finished":0,"no_steps":0,"template":0},"dry_run":false,"after":"01000000-0000-7000-8000-000000000001"}'),
    ('05000000-0000-7000-8000-000000000002', 'workflows', 'process_followups', 'queued', '{"dry_run": false}', 0,
     '{"interactions":1,"followed_up":0,"sent":0,"skipped":{"no_recipient":0,"suppressed":0,"changed":0,"template":0},"dry_run":false,"walk":{"began":"2026-11-20T10:00:00Z","at":{"leads":{"date":"2026-11-01T10:00:00Z","id":"02000000-0000-7000-8000-000000000001"}}}}'),
    ('05000000-0000-7000-8000-000000000003', 'workflows', 'remind_feedback', 'queued', '{"dry_run": false}', 1,
     '{"open":1,"reminded":1,"expired":0,"waiting":0,"skipped":{"blocked":0,"suppressed":0,"template":0},"dry_run":false,"after":["2026-11-01T10:00:00Z","04000000-0000-7000-8000-000000000001"],"began_at":"2026-11-20T10:00:00Z"}'),
    ('05000000-0000-7000-8000-000000000004', 'imports', 'undo_import', 'queued', '{"job_id": "01a227cd-bdd0-7249-9314-832a307dec97", "kind": "import_leads"}', 1,
     '{"removed":1,"restored":0,"left":0,"after_record":"01000000-0000-7000-8000-000000000003"}'),
    ('05000000-0000-7000-8000-000000000005', 'workflows', 'snapshot_health', 'failed', '{"dry_run": false}', 1,
     '{"date":"2026-11-28","customers":1,"healthy":1,"watch":0,"at_risk":0,"unknown":0,"dry_run":false,"kept":0,"total":2,"phase":"keep","after":"03000000-0000-7000-8000-000000000001"}'),
    ('05000000-0000-7000-8000-000000000006', 'workflows', 'find_themes', 'cancelled', '{"dry_run": false}', 3,
     '{"read":3,"found":true,"themes":1,"comments":2,"stage":{"assign":"04000000-0000-7000-8000-000000000001"}}'),
    ('05000000-0000-7000-8000-000000000007', 'workflows', 'clean_up', 'cancelled', '{}', 4, '{"deleted":4}'),
    ('05000000-0000-7000-8000-000000000008', 'workflows', 'request_feedback', 'cancelled', '{"feedback_id": "04000000-0000-7000-8000-000000000001"}', 1, '{"sent":1}'),
    ('05000000-0000-7000-8000-000000000009', 'imports', 'undo_import', 'cancelled', '{"job_id": "01a227cd-bdd0-7249-9314-832a307dec97", "kind": "import_leads"}', 2,
     '{"removed":1,"restored":1,"left":0,"after_record":"01000000-0000-7000-8000-000000000004","before_entry":"01a227cd-cea9-7701-9aa7-d3bc3be239d4"}'),
    ('05000000-0000-7000-8000-00000000000a', 'workflows', 'nurture_leads', 'cancelled', '{"dry_run": true}', 1,
     '{"leads":1,"sent":0,"waiting":1,"skipped":{"suppressed":0,"bounced":0,"interaction":0,"finished":0,"no_steps":0,"template":0},"dry_run":true,"preview":[],"after":"01000000-0000-7000-8000-000000000001","done":true}'),
    ('05000000-0000-7000-8000-00000000000b', 'workflows', 'nightly', 'failed', '{"date": "2026-11-28"}', 1,
     '{"date":"2026-11-28","runs":[{"job_id":"05000000-0000-7000-8000-00000000000c","kind":"process_followups","status":"failed","result":{"interactions":0,"walk":{"began":"2026-11-28T10:00:00Z","at":{"digests":{"after":null,"fate":null}}}},"error":"e","retry_at":null},{"job_id":"05000000-0000-7000-8000-00000000000d","kind":"clean_up","status":"cancelled","result":null,"error":null,"retry_at":null}],"cleaned":0,"ended":true}')
) AS new (id, queue, kind, status, payload, done, result);

-- What the follow-ups have gathered.
INSERT INTO followups (job_id, recipient, next_action_date, interaction_id, interaction_type)
VALUES ('05000000-0000-7000-8000-000000000002', 'sales@acme.example', '2026-11-01T10:00:00Z',
    '02000000-0000-7000-8000-000000000001', 'lead_interaction');
