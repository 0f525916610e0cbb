-- What a call was priced by: who served it and in which tier, beside `price_id` and the raw pools. A row that has them
-- can be priced again, and one without a price can be priced for the first time.
ALTER TABLE token_usage
    ADD COLUMN provider     text,  -- genai-prices' name; null: the caller did not say
    ADD COLUMN service_tier text;  -- batch, flex, priority, …; null: the usual one

ALTER TABLE token_holds ADD COLUMN provider text;  -- who is to serve the model that the hold names

-- Edits of what calls cost us and of what they cost users: models, prices, actions. The largest number says whether what
-- a process has in memory is in force still. Each edit takes the number after the one it has read, so of two at the same
-- moment one finds its number taken, and has to look again.
CREATE TABLE ai_edits (
    revision   bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    CONSTRAINT ai_edits_pkey PRIMARY KEY (revision)
);

-- As in 0009, but that a row which corrects the cost of an earlier one is no call: its cost counts, under a name of its
-- own, and it adds nothing to the number of anything else.
CREATE OR REPLACE VIEW unified.token_usage AS
    SELECT user_id, seq, CASE WHEN corrects_seq IS NULL THEN action_type ELSE 'cost_correction' END AS action_type,
           model_used, tokens_used, input_tokens, output_tokens, cost_estimate,
           success, error_message, metadata, created_at
      FROM public.token_usage
    UNION ALL
    SELECT user_id, seq,
           CASE WHEN transaction_type = 'purchase' THEN 'token_pack_purchase'
                WHEN transaction_type IN ('expiration', 'refund') THEN transaction_type
                WHEN token_amount < 0 THEN 'admin_deduct'
                WHEN source = 'subscription' THEN 'subscription_grant'
                WHEN source = 'trial' THEN 'trial_grant'
                ELSE 'admin_grant' END,
           NULL, abs(token_amount), NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_transactions
    UNION ALL
    SELECT user_id, seq, 'subscription_grant', NULL, drip_amount, NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_drips;

GRANT SELECT, INSERT ON ai_edits TO till_service;

INSERT INTO ai_edits VALUES (1, statement_timestamp(), 'tokentill');  -- the example actions and the first price book
