-- Transactions
SELECT 'transaction' as type, created_at, token_amount, transaction_type
FROM token_transactions WHERE user_id = 'USER_ID'

UNION ALL

-- Drips
SELECT 'drip' as type, drip_date as created_at, drip_amount as token_amount, 'drip' as transaction_type
FROM token_drips WHERE user_id = 'USER_ID'

UNION ALL

-- Usage (negative for display)
SELECT 'usage' as type, created_at, -tokens_used as token_amount, action_type as transaction_type
FROM token_usage WHERE user_id = 'USER_ID'

ORDER BY created_at DESC;
