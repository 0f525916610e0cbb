SELECT * FROM token_transactions
WHERE user_id = 'USER_ID'
ORDER BY created_at DESC;
