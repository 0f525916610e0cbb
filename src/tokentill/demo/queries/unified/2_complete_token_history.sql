-- Complete token history for a user
SELECT 
  created_at,
  action_type,
  tokens_used,
  CASE 
    WHEN action_type IN ('admin_grant', 'subscription_grant', 'trial_grant', 'token_pack_purchase') 
    THEN '+' || tokens_used::text
    ELSE '-' || tokens_used::text
  END as change,
  metadata
FROM token_usage
WHERE user_id = 'USER_ID_HERE'
ORDER BY created_at DESC;
