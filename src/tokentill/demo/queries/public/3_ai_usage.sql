SELECT * FROM token_usage
WHERE user_id = 'USER_ID'
ORDER BY created_at DESC;
