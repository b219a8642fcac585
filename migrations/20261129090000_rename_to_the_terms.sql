-- The names that the code and the documents use: a search vector, rate limits, scheduled runs.

ALTER TABLE leads RENAME COLUMN words TO search_vector;
ALTER INDEX leads_words_idx RENAME TO leads_search_vector_idx;
ALTER TABLE customers RENAME COLUMN words TO search_vector;
ALTER INDEX customers_words_idx RENAME TO customers_search_vector_idx;

ALTER TABLE email_pace RENAME TO email_rate_limits;
ALTER TABLE email_rate_limits RENAME CONSTRAINT email_pace_pkey TO email_rate_limits_pkey;

ALTER TABLE slots RENAME TO scheduled_runs;
ALTER TABLE scheduled_runs RENAME CONSTRAINT slots_pkey TO scheduled_runs_pkey;
