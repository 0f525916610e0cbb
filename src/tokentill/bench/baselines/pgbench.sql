-- Baseline: the least that records a spend, as four statements, by PostgreSQL's own client in C.
--
--     pgbench -n -M prepared -c 32 -j 2 -T 3 -D accounts=10000 -D zipf=0 -f pgbench.sql URL
--
-- It locks, checks and remembers nothing: no lots, no keys, a seq out of thin air.
\if :zipf
\set n random_zipfian(1, :accounts, 1.001) - 1
\else
\set n random(0, :accounts - 1)
\endif
\set tokens random(600, 1041)
\set seq random(1000000000, 1000000000000000)
BEGIN;
UPDATE token_accounts
   SET balance = balance - :tokens::bigint, seq = seq + 1, version = version + 1, last_at = now(),
       lifetime_tokens_used = lifetime_tokens_used + :tokens::bigint, lifetime_cost = lifetime_cost + :tokens::bigint * 0.0003
 WHERE user_id = md5('member ' || :n::bigint)::uuid;
INSERT INTO token_usage (user_id, seq, action_type, model_used, tokens_used, input_tokens, output_tokens, pools,
                         cost_estimate, success, estimated, balance_before, balance_after, lot_moves, debt_change,
                         idempotency_key, metadata, occurred_at, created_at)
VALUES (md5('member ' || :n::bigint)::uuid, :seq::bigint, 'chat_conversation', 'gpt-5-mini', :tokens::bigint, :tokens::bigint - 100, 100,
        '{"input_uncached": 500, "cache_read": 200, "output_text": 100}', :tokens::bigint * 0.0003, true, false, :tokens::bigint, 0,
        ARRAY[1, -:tokens::bigint], 0, gen_random_uuid(), '{}', now(), now());
COMMIT;
