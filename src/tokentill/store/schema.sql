-- Generated from the migrations by `make schema`; do not edit. It is read by people, never executed.

CREATE SCHEMA unified;

CREATE FUNCTION public.till_make_usage_partition(a_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
DECLARE
    first_day date := date_trunc('month', a_day::timestamp)::date;

    partition_name text := 'token_usage_' || to_char(first_day, 'YYYY_MM');

BEGIN
    IF a_day NOT BETWEEN '2000-01-01' AND '2199-12-31' THEN
        RAISE EXCEPTION 'no usage is written on %', a_day USING ERRCODE = 'datetime_field_overflow';

    END IF;

    IF to_regclass(partition_name) IS NULL THEN
        -- Made apart and then attached: CREATE … PARTITION OF would wait for every reader, and hold up every writer.
        EXECUTE format('CREATE TABLE %I (LIKE token_usage INCLUDING ALL)', partition_name);

        EXECUTE format('ALTER TABLE token_usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name,
                       first_day::timestamptz, (first_day + interval '1 month')::date::timestamptz);

    END IF;

EXCEPTION WHEN duplicate_table OR duplicate_object OR unique_violation THEN  -- another process was faster
    NULL;

END
$$;

CREATE FUNCTION public.till_user_id(who text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $_$
    SELECT CASE
        WHEN who ~ '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$' THEN who::uuid
        ELSE (SELECT encode(set_byte(set_byte(digest, 6, get_byte(digest, 6) & 15 | 128),
                                     8, get_byte(digest, 8) & 63 | 128), 'hex')::uuid
                FROM (SELECT substring(sha256(convert_to(who, 'UTF8')) FOR 16) AS digest) hashed)
    END
$_$;

CREATE TABLE public.ai_actions (
    action_type text NOT NULL,
    charge text NOT NULL,
    fixed_tokens bigint,
    multiplier numeric DEFAULT 1 NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    CONSTRAINT ai_actions_charge CHECK ((charge = ANY (ARRAY['metered'::text, 'fixed'::text]))),
    CONSTRAINT ai_actions_fixed_has_tokens CHECK (((charge = 'fixed'::text) = (fixed_tokens IS NOT NULL))),
    CONSTRAINT ai_actions_fixed_positive CHECK ((fixed_tokens > 0)),
    CONSTRAINT ai_actions_multiplier_not_negative CHECK ((multiplier >= (0)::numeric)),
    CONSTRAINT ai_actions_name CHECK ((action_type ~ '^[a-z][a-z0-9_]{0,62}$'::text))
);

CREATE TABLE public.audit_log (
    id uuid NOT NULL,
    user_id uuid,
    actor text NOT NULL,
    act text NOT NULL,
    seq bigint,
    detail jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.payments (
    user_id uuid NOT NULL,
    payment_id text NOT NULL,
    amount_cents bigint NOT NULL,
    currency text NOT NULL,
    customer_id text,
    session_id text,
    invoice_id text,
    paid_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT payments_amount_not_negative CHECK ((amount_cents >= 0))
);

CREATE TABLE public.stripe_customers (
    customer_id text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.stripe_events (
    event_id text NOT NULL,
    type text NOT NULL,
    api_version text,
    livemode boolean NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    detail text,
    user_id uuid,
    seq bigint,
    occurred_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    handled_at timestamp with time zone,
    CONSTRAINT stripe_events_state CHECK ((state = ANY (ARRAY['received'::text, 'handled'::text, 'ignored'::text, 'failed'::text])))
);

CREATE TABLE public.till_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL
);

CREATE TABLE public.token_accounts (
    user_id uuid NOT NULL,
    external_id text,
    email text,
    display_name text,
    balance bigint NOT NULL,
    debt bigint NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    last_at timestamp with time zone NOT NULL,
    lifetime_tokens_granted bigint DEFAULT 0 NOT NULL,
    lifetime_tokens_used bigint DEFAULT 0 NOT NULL,
    lifetime_cost numeric DEFAULT 0 NOT NULL,
    overdraft_limit bigint DEFAULT 0 NOT NULL,
    low_balance_threshold bigint,
    frozen_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_accounts_balance_covered CHECK ((balance >= (- debt))),
    CONSTRAINT token_accounts_debt_is_negative_balance CHECK (((debt = 0) OR (balance = (- debt)))),
    CONSTRAINT token_accounts_debt_not_negative CHECK ((debt >= 0)),
    CONSTRAINT token_accounts_external_id_length CHECK (((length(external_id) >= 1) AND (length(external_id) <= 255))),
    CONSTRAINT token_accounts_overdraft_limit_not_negative CHECK ((overdraft_limit >= 0)),
    CONSTRAINT token_accounts_seq_not_negative CHECK ((seq >= 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.token_drips (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    subscription_id text NOT NULL,
    drip_date timestamp with time zone NOT NULL,
    drip_amount bigint NOT NULL,
    cycle_number integer NOT NULL,
    rollover_from_previous bigint NOT NULL,
    rollover_cycles_count integer NOT NULL,
    expired_tokens bigint NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    billing_period_start timestamp with time zone NOT NULL,
    billing_period_end timestamp with time zone NOT NULL,
    lot bigint NOT NULL,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    metadata jsonb NOT NULL,
    idempotency_key uuid,
    effective_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_drips_adds_up CHECK ((balance_after = (balance_before + drip_amount))),
    CONSTRAINT token_drips_amount_positive CHECK ((drip_amount > 0)),
    CONSTRAINT token_drips_lot_is_seq CHECK ((lot = seq)),
    CONSTRAINT token_drips_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_drips_period CHECK ((billing_period_start < billing_period_end)),
    CONSTRAINT token_drips_seq_positive CHECK ((seq > 0))
);

CREATE TABLE public.token_transactions (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    transaction_type text NOT NULL,
    source text NOT NULL,
    token_amount bigint NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    amount_paid_cents bigint,
    currency text,
    stripe_payment_intent_id text,
    stripe_session_id text,
    stripe_invoice_id text,
    subscription_id text,
    token_pack_id text,
    lot bigint,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    related_user_id uuid,
    reverses_seq bigint,
    reason text,
    metadata jsonb NOT NULL,
    created_by text,
    idempotency_key uuid,
    effective_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_transactions_adds_up CHECK ((balance_after = (balance_before + token_amount))),
    CONSTRAINT token_transactions_lot_is_seq CHECK ((lot = seq)),
    CONSTRAINT token_transactions_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_transactions_paid_not_negative CHECK ((amount_paid_cents >= 0)),
    CONSTRAINT token_transactions_seq_positive CHECK ((seq > 0)),
    CONSTRAINT token_transactions_sign CHECK (
CASE transaction_type
    WHEN 'grant'::text THEN (token_amount > 0)
    WHEN 'purchase'::text THEN (token_amount > 0)
    WHEN 'deduction'::text THEN (token_amount < 0)
    WHEN 'expiration'::text THEN (token_amount < 0)
    ELSE true
END),
    CONSTRAINT token_transactions_source CHECK ((source = ANY (ARRAY['admin'::text, 'subscription'::text, 'trial'::text, 'token_pack'::text, 'stripe'::text, 'refund'::text, 'transfer'::text, 'usage'::text, 'legacy'::text]))),
    CONSTRAINT token_transactions_type CHECK ((transaction_type = ANY (ARRAY['grant'::text, 'purchase'::text, 'deduction'::text, 'refund'::text, 'transfer'::text, 'expiration'::text, 'opening'::text])))
);

CREATE TABLE public.token_usage (
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    action_type text NOT NULL,
    model_used text,
    tokens_used bigint NOT NULL,
    input_tokens bigint,
    output_tokens bigint,
    pools jsonb,
    cost_estimate numeric,
    price_id bigint,
    success boolean NOT NULL,
    error_message text,
    estimated boolean NOT NULL,
    balance_before bigint NOT NULL,
    balance_after bigint NOT NULL,
    lot_moves bigint[] NOT NULL,
    debt_change bigint NOT NULL,
    hold_id uuid,
    corrects_seq bigint,
    provider_request_id text,
    idempotency_key uuid,
    metadata jsonb NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_usage_adds_up CHECK ((balance_after = (balance_before - tokens_used))),
    CONSTRAINT token_usage_failure_is_free CHECK ((success OR (tokens_used = 0))),
    CONSTRAINT token_usage_input_not_negative CHECK ((input_tokens >= 0)),
    CONSTRAINT token_usage_lot_moves_paired CHECK (((cardinality(lot_moves) % 2) = 0)),
    CONSTRAINT token_usage_output_not_negative CHECK ((output_tokens >= 0)),
    CONSTRAINT token_usage_seq_positive CHECK ((seq > 0)),
    CONSTRAINT token_usage_tokens_not_negative CHECK ((tokens_used >= 0))
)
PARTITION BY RANGE (created_at);

CREATE VIEW public.token_history AS
 SELECT token_transactions.user_id,
    token_transactions.seq,
    'transaction'::text AS type,
    token_transactions.created_at,
    token_transactions.token_amount,
    token_transactions.transaction_type,
    token_transactions.balance_before,
    token_transactions.balance_after,
    token_transactions.effective_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'drip'::text AS type,
    token_drips.drip_date AS created_at,
    token_drips.drip_amount AS token_amount,
    'drip'::text AS transaction_type,
    token_drips.balance_before,
    token_drips.balance_after,
    token_drips.effective_at
   FROM public.token_drips
UNION ALL
 SELECT token_usage.user_id,
    token_usage.seq,
    'usage'::text AS type,
    token_usage.created_at,
    (- token_usage.tokens_used) AS token_amount,
    token_usage.action_type AS transaction_type,
    token_usage.balance_before,
    token_usage.balance_after,
    token_usage.occurred_at AS effective_at
   FROM public.token_usage;

CREATE TABLE public.token_holds (
    user_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    request_hash uuid NOT NULL,
    tokens bigint NOT NULL,
    state text NOT NULL,
    action_type text NOT NULL,
    model text,
    metadata jsonb NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    captured_seq bigint,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_holds_captured_by_a_row CHECK (((state = 'captured'::text) = (captured_seq IS NOT NULL))),
    CONSTRAINT token_holds_closed_when_ended CHECK (((state = 'placed'::text) = (closed_at IS NULL))),
    CONSTRAINT token_holds_lifetime_positive CHECK ((placed_at < expires_at)),
    CONSTRAINT token_holds_state CHECK ((state = ANY (ARRAY['placed'::text, 'captured'::text, 'voided'::text]))),
    CONSTRAINT token_holds_tokens_positive CHECK ((tokens > 0))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE VIEW public.token_holds_now AS
 SELECT user_id,
    hold_id,
    tokens,
        CASE
            WHEN ((state = 'placed'::text) AND (expires_at <= statement_timestamp())) THEN 'expired'::text
            ELSE state
        END AS state,
    action_type,
    model,
    metadata,
    placed_at,
    expires_at,
    closed_at,
    captured_seq
   FROM public.token_holds;

CREATE TABLE public.token_keys (
    user_id uuid NOT NULL,
    key uuid NOT NULL,
    request_hash uuid NOT NULL,
    kind text NOT NULL,
    seq bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT token_keys_kind CHECK ((kind = ANY (ARRAY['transaction'::text, 'drip'::text])))
);

CREATE TABLE public.token_lots (
    user_id uuid NOT NULL,
    lot bigint NOT NULL,
    kind text NOT NULL,
    granted bigint NOT NULL,
    remaining bigint NOT NULL,
    priority smallint DEFAULT 50 NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    paid_cents bigint,
    currency text,
    payment_id text,
    subscription_id text,
    cycle_number integer,
    CONSTRAINT token_lots_granted_positive CHECK ((granted > 0)),
    CONSTRAINT token_lots_kind CHECK ((kind = ANY (ARRAY['purchase'::text, 'subscription'::text, 'drip'::text, 'trial'::text, 'admin'::text, 'transfer'::text, 'refund'::text, 'opening'::text]))),
    CONSTRAINT token_lots_lifetime_positive CHECK ((effective_at < expires_at)),
    CONSTRAINT token_lots_paid_not_negative CHECK ((paid_cents >= 0)),
    CONSTRAINT token_lots_remaining_in_range CHECK (((remaining >= 0) AND (remaining <= granted)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.token_subscriptions (
    user_id uuid NOT NULL,
    external_id text,
    subscription_id text NOT NULL,
    plan_key text NOT NULL,
    status text NOT NULL,
    billed_by text NOT NULL,
    anchor timestamp with time zone NOT NULL,
    anchor_cycle integer NOT NULL,
    is_anchor_known boolean NOT NULL,
    cycle_number integer,
    next_drip_at timestamp with time zone,
    stripe_customer_id text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT token_subscriptions_billed_by CHECK ((billed_by = ANY (ARRAY['stripe'::text, 'clock'::text]))),
    CONSTRAINT token_subscriptions_status CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'paused'::text, 'canceled'::text])))
);

CREATE TABLE public.usage_keys (
    user_id uuid NOT NULL,
    key uuid NOT NULL,
    request_hash uuid NOT NULL,
    seq bigint NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE VIEW public.user_profiles AS
 SELECT user_id,
    email,
    display_name,
    (balance - (COALESCE(( SELECT sum(l.remaining) AS sum
           FROM public.token_lots l
          WHERE ((l.user_id = a.user_id) AND (l.expires_at <= statement_timestamp()))), (0)::numeric))::bigint) AS vibe_assistant_tokens_remaining,
    lifetime_tokens_used AS vibe_assistant_tokens_used,
    lifetime_cost AS vibe_assistant_total_cost
   FROM public.token_accounts a;

CREATE VIEW unified.token_transactions AS
 SELECT token_transactions.user_id,
    token_transactions.seq,
        CASE
            WHEN (token_transactions.transaction_type = 'purchase'::text) THEN 'token_pack_purchase'::text
            WHEN (token_transactions.transaction_type = 'expiration'::text) THEN 'expiration'::text
            WHEN (token_transactions.token_amount < 0) THEN 'admin_deduct'::text
            WHEN (token_transactions.source = 'subscription'::text) THEN 'subscription_grant'::text
            WHEN (token_transactions.source = 'trial'::text) THEN 'trial_grant'::text
            ELSE 'admin_grant'::text
        END AS action_type,
    (- token_transactions.token_amount) AS tokens_used,
    token_transactions.balance_after AS tokens_remaining,
    token_transactions.metadata,
    token_transactions.created_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'subscription_grant'::text AS action_type,
    (- token_drips.drip_amount) AS tokens_used,
    token_drips.balance_after AS tokens_remaining,
    token_drips.metadata,
    token_drips.created_at
   FROM public.token_drips;

CREATE VIEW unified.token_usage AS
 SELECT token_usage.user_id,
    token_usage.seq,
    token_usage.action_type,
    token_usage.model_used,
    token_usage.tokens_used,
    token_usage.input_tokens,
    token_usage.output_tokens,
    token_usage.cost_estimate,
    token_usage.success,
    token_usage.error_message,
    token_usage.metadata,
    token_usage.created_at
   FROM public.token_usage
UNION ALL
 SELECT token_transactions.user_id,
    token_transactions.seq,
        CASE
            WHEN (token_transactions.transaction_type = 'purchase'::text) THEN 'token_pack_purchase'::text
            WHEN (token_transactions.transaction_type = 'expiration'::text) THEN 'expiration'::text
            WHEN (token_transactions.token_amount < 0) THEN 'admin_deduct'::text
            WHEN (token_transactions.source = 'subscription'::text) THEN 'subscription_grant'::text
            WHEN (token_transactions.source = 'trial'::text) THEN 'trial_grant'::text
            ELSE 'admin_grant'::text
        END AS action_type,
    NULL::text AS model_used,
    abs(token_transactions.token_amount) AS tokens_used,
    NULL::bigint AS input_tokens,
    NULL::bigint AS output_tokens,
    NULL::numeric AS cost_estimate,
    true AS success,
    NULL::text AS error_message,
    token_transactions.metadata,
    token_transactions.created_at
   FROM public.token_transactions
UNION ALL
 SELECT token_drips.user_id,
    token_drips.seq,
    'subscription_grant'::text AS action_type,
    NULL::text AS model_used,
    token_drips.drip_amount AS tokens_used,
    NULL::bigint AS input_tokens,
    NULL::bigint AS output_tokens,
    NULL::numeric AS cost_estimate,
    true AS success,
    NULL::text AS error_message,
    token_drips.metadata,
    token_drips.created_at
   FROM public.token_drips;

ALTER TABLE ONLY public.ai_actions
    ADD CONSTRAINT ai_actions_pkey PRIMARY KEY (action_type);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (user_id, payment_id);

ALTER TABLE ONLY public.stripe_customers
    ADD CONSTRAINT stripe_customers_pkey PRIMARY KEY (customer_id);

ALTER TABLE ONLY public.stripe_events
    ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.till_migrations
    ADD CONSTRAINT till_migrations_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.token_accounts
    ADD CONSTRAINT token_accounts_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_once_per_cycle UNIQUE (user_id, subscription_id, cycle_number);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_pkey PRIMARY KEY (user_id, seq);

ALTER TABLE ONLY public.token_holds
    ADD CONSTRAINT token_holds_pkey PRIMARY KEY (hold_id, user_id);

ALTER TABLE ONLY public.token_keys
    ADD CONSTRAINT token_keys_pkey PRIMARY KEY (key, user_id);

ALTER TABLE ONLY public.token_lots
    ADD CONSTRAINT token_lots_pkey PRIMARY KEY (user_id, lot);

ALTER TABLE ONLY public.token_subscriptions
    ADD CONSTRAINT token_subscriptions_pkey PRIMARY KEY (user_id, subscription_id);

ALTER TABLE ONLY public.token_transactions
    ADD CONSTRAINT token_transactions_pkey PRIMARY KEY (user_id, seq);

ALTER TABLE ONLY public.token_usage
    ADD CONSTRAINT token_usage_pkey PRIMARY KEY (user_id, seq, created_at);

ALTER TABLE ONLY public.usage_keys
    ADD CONSTRAINT usage_keys_pkey PRIMARY KEY (key, user_id);

CREATE INDEX stripe_events_open_idx ON public.stripe_events USING btree (received_at) WHERE (state = ANY (ARRAY['received'::text, 'failed'::text]));

CREATE INDEX token_holds_user_id_expires_at_idx ON public.token_holds USING btree (user_id, expires_at);

CREATE INDEX token_subscriptions_due_idx ON public.token_subscriptions USING btree (next_drip_at) WHERE (billed_by = 'clock'::text);

CREATE INDEX token_subscriptions_subscription_idx ON public.token_subscriptions USING btree (subscription_id);

CREATE INDEX token_usage_created_at_idx ON ONLY public.token_usage USING brin (created_at);

CREATE INDEX usage_keys_created_at_idx ON public.usage_keys USING brin (created_at);

ALTER TABLE ONLY public.token_drips
    ADD CONSTRAINT token_drips_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

ALTER TABLE ONLY public.token_lots
    ADD CONSTRAINT token_lots_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

ALTER TABLE ONLY public.token_transactions
    ADD CONSTRAINT token_transactions_account_fkey FOREIGN KEY (user_id) REFERENCES public.token_accounts(user_id);

GRANT ALL ON SCHEMA public TO till_owner;

GRANT USAGE ON SCHEMA unified TO till_service;

REVOKE ALL ON FUNCTION public.till_make_usage_partition(a_day date) FROM PUBLIC;

GRANT ALL ON FUNCTION public.till_make_usage_partition(a_day date) TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.ai_actions TO till_service;

GRANT SELECT,INSERT ON TABLE public.audit_log TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.payments TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stripe_customers TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stripe_events TO till_service;

GRANT SELECT ON TABLE public.till_migrations TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_accounts TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_drips TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_transactions TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_usage TO till_service;

GRANT SELECT ON TABLE public.token_history TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_holds TO till_service;

GRANT SELECT ON TABLE public.token_holds_now TO till_service;

GRANT SELECT,INSERT ON TABLE public.token_keys TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_lots TO till_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.token_subscriptions TO till_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.usage_keys TO till_service;

GRANT SELECT ON TABLE public.user_profiles TO till_service;

GRANT SELECT ON TABLE unified.token_transactions TO till_service;

GRANT SELECT ON TABLE unified.token_usage TO till_service;
