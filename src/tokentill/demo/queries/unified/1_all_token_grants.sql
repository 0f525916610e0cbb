-- View all token grants in one place
SELECT 
  action_type,
  COUNT(*) as grant_count,
  SUM(tokens_used) as total_tokens_granted,
  MIN(created_at) as first_grant,
  MAX(created_at) as last_grant
FROM token_usage
WHERE action_type IN ('admin_grant', 'subscription_grant', 'trial_grant', 'token_pack_purchase')
GROUP BY action_type
ORDER BY total_tokens_granted DESC;
