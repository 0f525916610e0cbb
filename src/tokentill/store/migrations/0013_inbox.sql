-- The inbox by customer and by user, for whoever looks into it; and a link that is there before the account is.

ALTER TABLE stripe_events ADD COLUMN customer_id text;  -- as the payload names it
UPDATE stripe_events
   SET customer_id = coalesce(payload #>> '{data,object,customer,id}', payload #>> '{data,object,customer}');
CREATE INDEX stripe_events_customer_id_idx ON stripe_events (customer_id, received_at);
CREATE INDEX stripe_events_user_id_idx ON stripe_events (user_id, received_at) WHERE user_id IS NOT NULL;

ALTER TABLE stripe_customers ADD COLUMN external_id text;  -- as in token_accounts: the first grant may open the account
