-- What the app's own queries read.

CREATE VIEW token_history AS  -- every change of every balance; usage and expirations negative
    SELECT user_id, seq, 'transaction' AS type, created_at, token_amount, transaction_type,
           balance_before, balance_after, effective_at
      FROM token_transactions
    UNION ALL
    SELECT user_id, seq, 'drip', drip_date, drip_amount, 'drip',
           balance_before, balance_after, effective_at
      FROM token_drips
    UNION ALL
    SELECT user_id, seq, 'usage', created_at, -tokens_used, action_type,
           balance_before, balance_after, occurred_at
      FROM token_usage;

-- Here tokens that are due are gone already, whether or not anybody has swept them out. Not made where the host's
-- database has a user_profiles of its own.
DO $$
BEGIN
    IF to_regclass('user_profiles') IS NULL THEN
        CREATE VIEW user_profiles AS
            SELECT a.user_id, a.email, a.display_name,
                   a.balance - coalesce((SELECT sum(l.remaining) FROM token_lots l
                                          WHERE l.user_id = a.user_id AND l.expires_at <= statement_timestamp()), 0)::bigint
                       AS vibe_assistant_tokens_remaining,
                   a.lifetime_tokens_used AS vibe_assistant_tokens_used,
                   a.lifetime_cost AS vibe_assistant_total_cost
              FROM token_accounts a;
        GRANT SELECT ON user_profiles TO till_service;
    END IF;
END
$$;

-- The shapes that earlier states of such systems had, for queries written against them: with
-- search_path = unified, public they run unchanged.
CREATE SCHEMA unified;

CREATE VIEW unified.token_usage AS
    SELECT user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, cost_estimate,
           success, error_message, metadata, created_at
      FROM public.token_usage
    UNION ALL
    SELECT user_id, seq,
           CASE WHEN transaction_type = 'purchase' THEN 'token_pack_purchase'
                WHEN transaction_type = 'expiration' THEN 'expiration'
                WHEN token_amount < 0 THEN 'admin_deduct'
                WHEN source = 'subscription' THEN 'subscription_grant'
                WHEN source = 'trial' THEN 'trial_grant'
                ELSE 'admin_grant' END,
           NULL, abs(token_amount), NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_transactions
    UNION ALL
    SELECT user_id, seq, 'subscription_grant', NULL, drip_amount, NULL, NULL, NULL, true, NULL, metadata, created_at
      FROM public.token_drips;

CREATE VIEW unified.token_transactions AS  -- grants negative, as the first system wrote them
    SELECT user_id, seq,
           CASE WHEN transaction_type = 'purchase' THEN 'token_pack_purchase'
                WHEN transaction_type = 'expiration' THEN 'expiration'
                WHEN token_amount < 0 THEN 'admin_deduct'
                WHEN source = 'subscription' THEN 'subscription_grant'
                WHEN source = 'trial' THEN 'trial_grant'
                ELSE 'admin_grant' END AS action_type,
           -token_amount AS tokens_used, balance_after AS tokens_remaining, metadata, created_at
      FROM public.token_transactions
    UNION ALL
    SELECT user_id, seq, 'subscription_grant', -drip_amount, balance_after, metadata, created_at
      FROM public.token_drips;
