-- Check what's in token_transactions
SELECT 
  action_type,
  COUNT(*) as count,
  SUM(CASE WHEN tokens_used < 0 THEN ABS(tokens_used) ELSE 0 END) as total_grants
FROM token_transactions
GROUP BY action_type;

-- Check what's in token_usage for grants
SELECT 
  action_type,
  COUNT(*) as count,
  SUM(tokens_used) as total_tokens
FROM token_usage
WHERE action_type IN ('admin_grant', 'admin_deduct')
GROUP BY action_type;

-- Find users with grants in token_transactions but not token_usage
SELECT DISTINCT user_id
FROM token_transactions
WHERE user_id NOT IN (
  SELECT DISTINCT user_id 
  FROM token_usage 
  WHERE action_type = 'admin_grant'
);
