SELECT * FROM token_drips
WHERE user_id = 'USER_ID'
ORDER BY drip_date DESC;
