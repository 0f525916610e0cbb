-- Law 6: the service may add to the journals and never change or remove a row of them. It owns nothing.

-- Each table is named: the database may hold the host's own, which are none of our business.

GRANT USAGE ON SCHEMA public, unified TO till_service;
GRANT SELECT ON till_migrations, token_accounts, token_lots, token_transactions, token_drips, token_usage, token_keys,
    usage_keys, stripe_events, stripe_customers, payments, token_subscriptions, audit_log, ai_actions, token_history,
    unified.token_usage, unified.token_transactions TO till_service;
GRANT INSERT ON token_transactions, token_drips, token_usage, token_keys, audit_log TO till_service;
GRANT INSERT, UPDATE ON token_accounts, token_lots, stripe_events, stripe_customers, payments, token_subscriptions,
    ai_actions TO till_service;
GRANT INSERT, DELETE ON usage_keys TO till_service;
REVOKE ALL ON FUNCTION till_make_usage_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION till_make_usage_partition(date) TO till_service;
